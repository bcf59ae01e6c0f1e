"""Every guard provoked: what the user is told, and what is kept."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.synthetic import STILL, make_corpus, recipe_of

from wavconformer import DataError
from wavconformer.errors import TrainingError
from wavconformer.training import loop as module
from wavconformer.training.guards import SkippedShare, check_collapse
from wavconformer.training.loop import Loop, Task
from wavconformer.training.metrics import read_metrics
from wavconformer.training.pretrain import Pretrain
from wavconformer.training.recipe import Pretraining
from wavconformer.training.starting import Start


class Poison(Task):
    """Makes the loss of some updates NaN, by a weight of the head."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self._weight: torch.Tensor | None = None

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        norm = loop.model.base_model.encoder.layers[0].conv_module.batch_norm
        if self._weight is not None:
            norm.bias.data.copy_(self._weight)
            self._weight = None
        if step in self.steps:
            self._weight = norm.bias.data.clone()
            norm.bias.data[0] = torch.nan
        return {}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_an_update_that_is_not_finite_is_left_out(tones, tmp_path):
    recipe = recipe_of(tones, tmp_path, config=STILL, max_steps=6, save_every=1, keep_last=9)
    Loop(recipe, Poison(2)).run()
    (said,) = [line for line in read_metrics(tmp_path) if line["kind"] == "skipped"]
    assert (said["step"], said["reason"], said["loss"]) == (3, "not finite", "nan")
    assert set(said["utterances"]) <= {f"u{number}" for number in range(8)} and len(said["utterances"]) == 4
    assert names(tmp_path) == [f"checkpoint-{step:06d}" for step in (1, 2, 4, 5, 6)]
    last = load_file(tmp_path / "checkpoint-000006" / "model.safetensors")
    assert all(value.isfinite().all() for value in last.values())
    assert [line["step"] for line in read_metrics(tmp_path) if line["kind"] == "train"] == [1, 2, 4, 5, 6]


def test_ten_in_a_row_stop_the_run_and_the_last_good_checkpoint_stays(tones, tmp_path):
    recipe = recipe_of(tones, tmp_path, config=STILL, max_steps=30, save_every=3)
    with pytest.raises(TrainingError) as caught:
        Loop(recipe, Poison(*range(7, 30))).run()
    for said in ("Update 17", "10 times in a row", "checkpoint-000006' is kept", "utterances u", "Lower optim.lr"):
        assert said in str(caught.value)
    assert names(tmp_path)[-1] == "checkpoint-000006"
    saved = load_file(tmp_path / "checkpoint-000006" / "model.safetensors")
    assert all(value.isfinite().all() for value in saved.values())
    assert sum(line["kind"] == "skipped" for line in read_metrics(tmp_path)) == 10


def test_texts_too_long_for_their_audio_are_refused_beyond_a_share(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", u3="ABC" * 20)
    with pytest.raises(DataError) as caught:
        Loop(recipe_of(corpus, tmp_path / "run"), Task()).run()
    for said in ("1 of ", "max_skipped allows 1.0% of the 8", "u3: its text needs 60 frames, its audio makes 49"):
        assert said in str(caught.value)
    Loop(recipe_of(corpus, tmp_path / "lenient", max_skipped=0.2), Task()).run()
    lines = [json.loads(line) for line in (tmp_path / "lenient" / "skipped.jsonl").read_text().splitlines()]
    assert len(lines) == 5 and {line["id"] for line in lines} == {"u3"}  # five epochs
    assert [line["skipped"] for line in read_metrics(tmp_path / "lenient") if "skipped" in line][-1] == 5


def test_a_batch_that_nothing_is_left_of_is_passed_over(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", u3="ABC" * 20)
    for name, settings in (("alone", {}), ("several", {"accumulate": 4})):
        folder = tmp_path / name
        given = {"batch_seconds": 1.0, "max_seconds": 1.0, "max_skipped": 1.0, "max_steps": 8} | settings
        Loop(recipe_of(corpus, folder, **given), Task()).run()
        steps = [line["step"] for line in read_metrics(folder) if line["kind"] == "train"]
        assert len(steps) == (7 if name == "alone" else 8)
        assert json.loads((folder / "skipped.jsonl").read_text().splitlines()[0])["id"] == "u3"


def test_the_share_is_of_an_epoch_at_first():
    share = SkippedShare(0.01, 1000)
    share.count(5, 3)
    share.count(500, 7)
    with pytest.raises(DataError, match="11 of 516 utterances"):
        share.count(0, 1)


class Collapse(Pretrain):
    """Has all frames choose one entry of each codebook."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        if step == 5:
            loop.model.quantizer.weight_proj.weight.data.zero_()
            loop.model.quantizer.weight_proj.bias.data.view(2, 8)[:, 0] = 200.0
        return super().before_update(loop, step)


def test_codebooks_that_collapse_stop_pretraining(tones, tmp_path):
    settings = Pretraining(watch_after=3, least_perplexity=3.0, least_accuracy=0.0)
    recipe = recipe_of(
        tones, tmp_path, task="pretrain", config={"mask_time_prob": 0.5, "mask_time_length": 4}, max_steps=12,
        pretraining=settings, save_every=2,
    )  # fmt: skip
    with pytest.raises(TrainingError) as caught:
        Loop(recipe, Collapse()).run()
    for said in ("Update 6", "codebooks have collapsed", "perplexity is 2.0", "Raise diversity_loss_weight"):
        assert said in str(caught.value)
    assert names(tmp_path) == ["checkpoint-000002", "checkpoint-000004"]
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert lines[-1]["accuracy"] == 0.0  # of equal codes none is told from another


def test_a_model_that_only_guesses_stops_pretraining():
    settings = Pretraining(watch_after=100)
    check_collapse(settings, 99, 2.0, 0.0, 100)
    check_collapse(settings, 100, 40.0, 0.02, 100)
    with pytest.raises(TrainingError, match=r"tells 1\.00% of the masked frames .* chance would be 0\.99%"):
        check_collapse(settings, 100, 40.0, 0.01, 100)
    with pytest.raises(TrainingError, match="collapsed"):
        check_collapse(settings, 100, float("nan"), 0.5, 100)


def test_a_full_disk_keeps_the_last_checkpoint(tones, tmp_path, monkeypatch):
    whole = Start.save
    calls = []

    def save(self, folder):
        calls.append(folder)
        if len(calls) > 3:
            (folder / "half").write_text("x")
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(self, folder)

    monkeypatch.setattr(Start, "save", save)
    recipe = recipe_of(tones, tmp_path, max_steps=10, save_every=1, keep_last=3)
    with pytest.raises(TrainingError) as caught:
        Loop(recipe, Task()).run()
    for said in ("is on is full: update 4 couldn't be saved", "checkpoint-000003' is kept", "--resume"):
        assert said in str(caught.value)
    assert names(tmp_path) == ["checkpoint-000003"]  # the older ones made room in vain
    assert not list(tmp_path.glob(".checkpoint*"))
    monkeypatch.setattr(Start, "save", whole)
    assert Loop(recipe, Task(), resume=True).run().step == 10


def test_older_checkpoints_make_room(tones, tmp_path, monkeypatch):
    whole = Start.save

    def save(self, folder):
        if len(names(tmp_path)) > 2:  # no more go on this disk
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(self, folder)

    monkeypatch.setattr(Start, "save", save)
    Loop(recipe_of(tones, tmp_path, max_steps=6, save_every=1, keep_last=9), Task()).run()
    assert "checkpoint-000006" in names(tmp_path)


def test_a_disk_that_fills_up_between_checkpoints(tones, tmp_path, monkeypatch):
    write = module.MetricsLog.write

    def full(self, kind, step, values):
        if step == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, kind, step, values)

    monkeypatch.setattr(module.MetricsLog, "write", full)
    with pytest.raises(TrainingError, match="is full, at update 5") as caught:
        Loop(recipe_of(tones, tmp_path, save_every=2), Task()).run()
    assert "checkpoint-000005' is kept" in str(caught.value)


def test_other_errors_of_the_disk_are_told_as_they_are(tones, tmp_path, monkeypatch):
    def save(self, folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Start, "save", save)
    with pytest.raises(PermissionError):
        Loop(recipe_of(tones, tmp_path, save_every=1), Task()).run()
    assert not list(tmp_path.glob(".checkpoint*"))
