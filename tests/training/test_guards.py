"""Every guard provoked: what the user is told, and what is kept."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.training.synthetic import STILL, make_corpus, recipe_of

from wavconformer import ConfigError, DataError
from wavconformer.errors import TrainingError, WavConformerError
from wavconformer.training.guards import SkippedShare, check_collapse
from wavconformer.training.loop import Loop, Task
from wavconformer.training.metrics import read_lines, read_metrics
from wavconformer.training.pretrain import Pretrain
from wavconformer.training.recipe import Pretraining, Recipe, write_recipe
from wavconformer.training.starting import Start


def shown(recipe: Recipe, task: Task) -> str:
    """What a run to its end shows to who looks on."""
    console = Console(file=io.StringIO(), width=500)
    Loop(recipe, task).run(console)
    return console.file.getvalue()


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
    assert "Update 3 is left out: loss nan, gradient nan." in shown(recipe, Poison(2))
    (said,) = [line for line in read_metrics(tmp_path) if line["kind"] == "skipped"]
    assert (said["step"], said["reason"], said["loss"]) == (3, "not finite", "nan")
    assert set(said["utterances"]) <= {f"u{number}" for number in range(8)} and len(said["utterances"]) == 4
    assert names(tmp_path) == [f"checkpoint-{step:06d}" for step in (1, 2, 4, 5, 6)]
    last = load_file(tmp_path / "checkpoint-000006" / "model.safetensors")
    assert all(value.isfinite().all() for value in last.values())
    assert [line["step"] for line in read_metrics(tmp_path) if line["kind"] == "train"] == [1, 2, 4, 5, 6]


class Overflow(Task):
    """Makes the gradient of the third update infinite; its loss stays as it is."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        if step == 2:
            weight = loop.model.lm_head.weight
            hook = weight.register_hook(lambda gradient: hook.remove() or torch.full_like(gradient, torch.inf))
        return {}


def test_a_gradient_that_is_not_finite_counts_as_such(tones, tmp_path):
    recipe = recipe_of(tones, tmp_path, config=STILL, max_steps=4, save_every=1, keep_last=9)
    assert "gradient inf." in shown(recipe, Overflow())
    (said,) = [line for line in read_metrics(tmp_path) if line["kind"] == "skipped"]
    assert (said["step"], said["grad_norm"], len(said["utterances"])) == (3, "inf", 4)
    assert 0 < said["loss"] < 100
    assert names(tmp_path) == [f"checkpoint-{step:06d}" for step in (1, 2, 4)]
    saved = load_file(tmp_path / "checkpoint-000004" / "model.safetensors")
    assert all(value.isfinite().all() for value in saved.values())


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


@pytest.mark.parametrize("end", ["last", "SIGTERM"])
def test_a_run_that_ends_with_an_update_left_out_keeps_those_before(tones, tmp_path, end):
    class Last(Overflow):
        def before_update(self, loop: Loop, step: int) -> dict[str, float]:
            if step == 1 and end == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            return super().before_update(loop, step)

    outcome = Loop(recipe_of(tones, tmp_path, config=STILL, max_steps=3 if end == "last" else 9), Last()).run()
    assert (outcome.step, outcome.stopped_by) == (3, None if end == "last" else "SIGTERM")
    (said,) = [line for line in read_metrics(tmp_path) if line["kind"] == "skipped"]
    assert said["step"] == 3
    assert names(tmp_path) == ["checkpoint-000003"]


def test_texts_too_long_for_their_audio_are_refused_beyond_a_share(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", u3="ABC" * 20)
    with pytest.raises(DataError) as caught:
        Loop(recipe_of(corpus, tmp_path / "run"), Task()).run()
    for said in ("1 of ", "max_skipped allows 1.0% of the 8", "u3: its text needs 60 frames, its audio makes 49"):
        assert said in str(caught.value)
    assert [line["id"] for line in read_lines(tmp_path / "run" / "skipped.jsonl")] == ["u3"]
    told = shown(recipe_of(corpus, tmp_path / "lenient", max_skipped=0.2), Task())
    assert told.count("'u3' is skipped: its text needs 60 frames, its audio makes 49.") == 1
    assert "5 of 40 utterances were skipped" in told
    lines = read_lines(tmp_path / "lenient" / "skipped.jsonl")
    assert len(lines) == 5 and {line["id"] for line in lines} == {"u3"}  # five epochs
    assert [line["skipped"] for line in read_metrics(tmp_path / "lenient") if "skipped" in line][-1] == 5


def test_held_out_utterances_that_are_skipped_are_told_once(tones, tmp_path):
    corpus = make_corpus(tmp_path / "corpus", u3="ABC" * 20, u5="xyz")
    recipe = recipe_of(tones, tmp_path / "run", valid=True, max_steps=4, eval_every=2)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, valid=(str(corpus),)))
    told = shown(recipe, Task())
    assert told.count("of the held-out data is skipped") == 1 and told.count("skipped 2, loss") == 2
    lines = read_lines(tmp_path / "run" / "skipped.jsonl")
    assert {line["id"] for line in lines} == {"u3", "u5"} and all(line["held_out"] for line in lines)


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


class Guess(Pretrain):
    """Has the model say the same of all frames."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        if step >= 3:
            loop.model.project_hid.weight.data.zero_()
        return super().before_update(loop, step)


def test_a_model_that_only_guesses_stops_pretraining(tones, tmp_path):
    settings = Pretraining(watch_after=4, least_perplexity=0.0, least_accuracy=4.0)
    recipe = recipe_of(
        tones, tmp_path, task="pretrain", config={"mask_time_prob": 0.5, "mask_time_length": 4}, max_steps=12,
        pretraining=settings, save_every=2,
    )  # fmt: skip
    with pytest.raises(TrainingError) as caught:
        Loop(recipe, Guess()).run()
    for said in ("Update 4", "of the masked frames", "chance would be 16.67%", "Lower optim.lr", "watch_after"):
        assert said in str(caught.value)
    assert names(tmp_path) == ["checkpoint-000002"]


def test_what_counts_as_guessing():
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


class FullLog(Task):
    """Has metrics.jsonl end on a device without room, in the fifth update."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        if step == 4:
            (loop.folder / "metrics.jsonl").unlink()
            (loop.folder / "metrics.jsonl").symlink_to("/dev/full")
        return {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_a_disk_that_fills_up_between_checkpoints(tones, tmp_path):
    with pytest.raises(TrainingError, match="is full, at update 5") as caught:
        Loop(recipe_of(tones, tmp_path, save_every=2), FullLog()).run()
    assert "checkpoint-000005' is kept" in str(caught.value)


class Killer(Task):
    """Ends a process that loads data, as the kernel does where memory is short."""

    def before_update(self, loop: Loop, step: int) -> dict[str, float]:
        if step == 4:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        return {}


def test_a_data_worker_that_is_killed_stops_the_run(tones, tmp_path):
    with pytest.raises(TrainingError) as caught:
        Loop(recipe_of(tones, tmp_path, workers=2, max_steps=100_000, save_every=2), Killer()).run()
    for said in ("A process that loads data has ended", "memory", "lower trainer.workers", "is kept", "--resume"):
        assert said in str(caught.value)
    assert names(tmp_path)[-1] >= "checkpoint-000004"
    assert not multiprocessing.active_children()


# A run that ends by an error that nobody foresaw, while its workers are at work.
UNFORESEEN = """
import sys
from wavconformer.training.loop import Loop, Task
from wavconformer.training.recipe import read_recipe

class Broken(Task):
    def before_update(self, loop, step):
        if step == 2:
            raise RuntimeError("out of memory")
        return {}

if __name__ == "__main__":
    Loop(read_recipe(sys.argv[1]), Broken()).run()
"""


def test_an_error_that_nobody_foresaw_ends_the_process(tones, tmp_path):
    """Workers ignore SIGTERM, by which Python ends those that are left at its exit, and would wait for for ever."""
    recipe = write_recipe(recipe_of(tones, tmp_path / "run", workers=2), tmp_path)
    (tmp_path / "script.py").write_text(UNFORESEEN)
    arguments = [sys.executable, tmp_path / "script.py", recipe]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("RuntimeError: out of memory")


# What a user types, on a disk of its own: a run until it is full; room; the same with --resume.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=900k tmpfs "$1" || exit
"$0" -m wavconformer finetune "$2"; echo "code $?"; ls -A "$1/run"
mount -o remount,size=20m "$1"
"$0" -m wavconformer finetune "$2" --resume; echo "code $?"; ls -A "$1/run"
"""


def test_a_disk_that_is_full_in_earnest(tones, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "--user", "--map-root-user", "--mount"]  # mounted in a namespace, gone when it ends
    if shutil.which(own[0]) is None or subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no file systems of its own can be had here")
    recipe = write_recipe(recipe_of(tones, disk / "run", max_steps=3, save_every=1), tmp_path)
    done = subprocess.run(
        [*own, "sh", "-c", ON_A_SMALL_DISK, sys.executable, str(disk), str(recipe)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    full, _, gone_on = done.stdout.removeprefix("code ").partition("code ")
    assert full.split()[:-1] == ["1", "checkpoint-000001", "metrics.jsonl", "recipe.yaml"]  # and what the next prints
    said = " ".join(done.stderr.split())
    assert f"The disk that '{disk}/run' is on is full: update 2 couldn't be saved." in said
    assert "checkpoint-000001' is kept. Make room, and go on with --resume." in said
    assert "Traceback" not in said
    assert gone_on.split()[0] == "0" and {"checkpoint-000003", "model", "curves.png"} <= set(gone_on.split())


@pytest.mark.parametrize("name", ["matplotlib", "tensorboard"])
def test_what_is_not_installed_is_told_before_the_first_update(tones, tmp_path, monkeypatch, name):
    recipe = recipe_of(tones, tmp_path)
    recipe = dataclasses.replace(recipe, logging=dataclasses.replace(recipe.logging, tensorboard=True))
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(ConfigError, match=rf"needs? {name} .*pip install 'wavconformer\[train\]'"):
        Loop(recipe, Task()).run()
    assert not names(tmp_path) and not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(("task", "name"), [("ctc", "jiwer"), ("frame", "pyannote.metrics")])
def test_scores_that_cannot_be_had_are_told_before_the_first_update(tones, tmp_path, monkeypatch, task, name):
    best = {"ctc": "wer", "frame": "der"}[task]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[evaluate\]'"):
        Loop(recipe_of(tones, tmp_path / "run", task=task, valid=True, best=best), Task())
    assert not (tmp_path / "run").exists()


def test_other_errors_of_the_disk_are_told_as_they_are(tones, tmp_path, monkeypatch):
    def save(self, folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Start, "save", save)
    with pytest.raises(PermissionError):
        Loop(recipe_of(tones, tmp_path, save_every=1), Task()).run()
    assert not list(tmp_path.glob(".checkpoint*"))
