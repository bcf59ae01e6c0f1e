"""Fine-tuning from end to end, and what must not change its result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.synthetic import SHAPE, STILL, make_corpus, recipe_of, with_logging, with_trainer

import wavconformer
from wavconformer import ConfigError
from wavconformer.evaluation.evaluate import evaluate
from wavconformer.training.checkpoints import Checkpoints
from wavconformer.training.finetune import finetune
from wavconformer.training.metrics import read_metrics
from wavconformer.training.pretrain import pretrain
from wavconformer.training.recipe import write_recipe
from wavconformer.training.starting import start

STEPS = 40


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("four"), ("AB", "BA", "A", "B"))


@pytest.fixture(scope="module")
def trained(four, tmp_path_factory) -> Path:
    """The run's folder of a model that learned four utterances by heart."""
    folder = tmp_path_factory.mktemp("run")
    recipe = recipe_of(four, folder, valid=True, max_steps=160, lr=4e-3, eval_every=80, best="wer", config=STILL)
    outcome = finetune(with_logging(recipe, tensorboard=True))
    assert (outcome.step, outcome.model, outcome.stopped_by) == (160, folder / "model", None)
    return folder


def losses(folder: Path, kind: str = "train") -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if line["kind"] == kind]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def assert_equal(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert max((first[name] - second[name]).abs().max().item() for name in first) == 0.0


def test_ctc_from_scratch_learns_four_utterances_by_heart(trained, four):
    curve = losses(trained)
    assert len(curve) == 160
    assert curve[-1] < 0.1 < 5 < curve[0]
    valid = [line for line in read_metrics(trained) if line["kind"] == "valid"]
    assert [line["step"] for line in valid] == [80, 160]
    assert valid[-1]["wer"] == valid[-1]["cer"] == 0.0


def test_the_final_folder_is_a_checkpoint(trained, four):
    transcriber = wavconformer.load_model(trained / "model", device="cpu")
    assert transcriber(four / "source" / "u0.wav").text == "AB"
    scores = evaluate(trained / "model", four / "manifest.jsonl", device="cpu").scores
    assert scores.wer.errors == 0
    card = (trained / "model" / "README.md").read_text()
    for said in ("4 utterances", str(four), "| wer | 0 |", "max_steps: 160"):
        assert said in card
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((trained / "tensorboard").iterdir())
    names = {path.name for path in trained.iterdir()}
    assert {"recipe.yaml", "best.json", "metrics.jsonl", "checkpoint-000160"} <= names
    assert not [name for name in names if name.endswith(".part")]


def test_a_folder_that_holds_a_run_is_not_written_over(trained, four, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file: name a folder for the run"):
        finetune(recipe_of(four, tmp_path / "file"))
    with pytest.raises(ConfigError, match="holds a run already"):
        finetune(recipe_of(four, trained))
    with pytest.raises(ConfigError, match=r"another recipe: .*optim\.lr \(0\.004 → 1e-05\)"):
        finetune(recipe_of(four, trained, lr=1e-5), resume=True)


def test_pretraining_recipes_are_for_the_other_command(tones, tmp_path):
    with pytest.raises(ConfigError, match="wavconformer pretrain"):
        finetune(recipe_of(tones, tmp_path, task="pretrain"))
    with pytest.raises(ConfigError, match=r"trainer\.best is wer, but the task sequence"):
        finetune(recipe_of(tones, tmp_path, task="sequence", valid=True, best="wer"))


# --- taken up again


def restless(corpus: Path, folder: Path, **settings):
    """A recipe with all that is drawn: dropout, LayerDrop, SpecAugment; and an average, evaluations."""
    noisy = {"hidden_dropout": 0.1, "activation_dropout": 0.1, "layerdrop": 0.2}
    noisy |= {"mask_time_prob": 0.3, "mask_time_length": 4, "mask_feature_prob": 0.2}
    return recipe_of(
        corpus, folder, config=noisy, valid=True, max_steps=STEPS, save_every=4, eval_every=10, ema=0.9, **settings
    )


def test_killed_and_taken_up_again_it_ends_as_if_unbroken(tones, tmp_path):
    finetune(restless(tones, tmp_path / "whole"))
    folder = tmp_path / "broken"
    recipe = write_recipe(restless(tones, folder, workers=1), tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "wavconformer", "finetune", str(recipe)], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        metrics = folder / "metrics.jsonl"
        while process.poll() is None and not (metrics.is_file() and metrics.read_text().count('"train"') >= 9):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "model").exists()
    reached = max(int(path.name[-6:]) for path in folder.glob("checkpoint-*"))
    assert 8 <= reached < STEPS
    outcome = finetune(restless(tones, folder, workers=0), resume=True)
    assert outcome.step == STEPS
    assert_equal(tmp_path / "whole", folder)
    assert losses(tmp_path / "whole") == losses(folder)
    last = f"checkpoint-{STEPS:06d}"
    for name in ("model.safetensors", "ema.safetensors"):
        one, other = (load_file(place / last / name) for place in (tmp_path / "whole", folder))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_killed_before_it_said_which_is_best(tones, tmp_path, monkeypatch):
    """The checkpoint of a better evaluation is there, best.json isn't yet."""
    recipe = recipe_of(tones, tmp_path, valid=True, max_steps=8, eval_every=4, save_every=4)

    def killed(self, path, metrics):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "set_best", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(recipe)
    checkpoints = Checkpoints(tmp_path, 2)
    assert checkpoints.best() is None and checkpoints.latest() == tmp_path / "checkpoint-000004"
    monkeypatch.setattr("wavconformer.training.loop.validate", lambda *given: ({"loss": 1e9}, []))
    outcome = finetune(recipe, resume=True)
    assert checkpoints.best() == tmp_path / "checkpoint-000004"
    assert outcome.scores["loss"] < 1e9


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path):
    for name in ("999999", "1000000", "000010", "000010.old", "copy"):
        (tmp_path / f"checkpoint-{name}").mkdir()
    checkpoints = Checkpoints(tmp_path, 2)
    assert [path.name for path in checkpoints.all()] == [f"checkpoint-{n}" for n in ("000010", "999999", "1000000")]
    checkpoints.prune(1)
    assert checkpoints.latest() == tmp_path / "checkpoint-1000000"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000010.old",
        "checkpoint-1000000",
        "checkpoint-copy",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(tones, tmp_path, number, monkeypatch):
    finetune(recipe_of(tones, tmp_path / "whole"))
    recipe = recipe_of(tones, tmp_path / "broken")
    handler = signal.getsignal(number)  # in a shell's background SIGINT is ignored
    from wavconformer.training.loop import Task

    def before_update(self, loop, step):
        if step == 4:
            os.kill(os.getpid(), number)
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(Task, "before_update", before_update)
        outcome = finetune(recipe)
    assert (outcome.step, outcome.model, outcome.stopped_by) == (6, None, signal.Signals(number).name)
    assert [path.name for path in (tmp_path / "broken").glob("checkpoint-*")] == ["checkpoint-000006"]
    assert signal.getsignal(number) is handler
    finetune(recipe, resume=True)
    assert_equal(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(("save_every", "kept"), [(2, "checkpoint 2 is kept"), (9, "nothing is kept")])
def test_the_command_says_what_is_kept_of_weights_that_broke(tones, tmp_path, monkeypatch, run, save_every, kept):
    from wavconformer.training.loop import Task

    def break_and_stop(self, loop, step):
        if step == 3:
            loop.model.lm_head.weight.data.fill_(float("nan"))
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr(Task, "before_update", break_and_stop)
    recipe = write_recipe(recipe_of(tones, tmp_path / "run"), tmp_path)
    code, _, said = run("finetune", recipe, "trainer.max_steps=20", f"trainer.save_every={save_every}")
    assert code == 128 + signal.SIGTERM
    assert f"Stopped at update 5 with weights that aren't finite: {kept}." in " ".join(said.split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_how_to_go_on(tones, tmp_path, monkeypatch, run, number):
    from wavconformer.training.loop import Task

    recipe = write_recipe(recipe_of(tones, tmp_path / "run"), tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code, out, err = run("finetune", recipe, *arguments)
        return code, out.strip(), " ".join(err.split())

    with monkeypatch.context() as patch:
        patch.setattr(
            Task, "before_update", lambda self, loop, step: (step == 0 and os.kill(os.getpid(), number)) or {}
        )
        code, _, said = call("trainer.max_steps=20")
    assert code == 128 + number
    assert "Stopped at update 2 and saved. The same command with --resume goes on." in said
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-000002"]
    assert call("trainer.max_stepz=20")[0] == 1
    code, out, said = call("trainer.max_steps=20", "--resume")
    assert (code, out) == (0, str(tmp_path / "run" / "model"))
    assert "going on from update 2" in said


def test_a_second_ctrl_c_ends_it_at_once(tones, tmp_path, monkeypatch, run):
    from wavconformer.training.loop import Task

    def before_update(self, loop, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    monkeypatch.setattr(Task, "before_update", before_update)
    recipe = write_recipe(recipe_of(tones, tmp_path / "run", save_every=2, keep_last=9), tmp_path)
    code, out, _ = run("finetune", recipe)
    assert (code, out) == (130, "")
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == [
        "checkpoint-000002",
        "checkpoint-000004",
    ]


# --- however an update is parted


# On a machine without a GPU --multi_gpu means gloo; accelerate's --cpu would start one process alone.
IN_TWO = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"),
]


def hard_start(folder: Path) -> Path:
    """A model to pretrain whose codes its logits choose alone: Gumbel noise, own to each process, decides nothing."""
    masks = {"mask_time_prob": 0.5, "mask_time_length": 4}
    torch.manual_seed(0)
    model = wavconformer.Wav2Vec2ConformerForPreTraining(
        wavconformer.Wav2Vec2ConformerConfig.preset("tiny", **SHAPE | masks)
    )
    model.quantizer.weight_proj.weight.data *= 1e6
    model.save_pretrained(folder)
    wavconformer.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", ["ctc", "pretrain"])
def test_two_processes_are_as_one_with_the_same_global_batch(tones, tmp_path, task):
    """Dropout, LayerDrop and SpecAugment off; batch norms in training, codebook usage of both processes."""
    config = STILL if task == "ctc" else {}
    init = None if task == "ctc" else str(hard_start(tmp_path / "start"))
    one = recipe_of(
        tones, tmp_path / "one", task=task, init=init, config=config, max_steps=20, batch_seconds=8.0, weight_decay=0.01
    )
    command, alone = ("finetune", finetune) if task == "ctc" else ("pretrain", pretrain)
    alone(one)
    recipe = write_recipe(with_trainer(with_logging(one, folder=str(tmp_path / "two")), batch_seconds=4.0), tmp_path)
    done = subprocess.run(
        [*IN_TWO, "wavconformer", command, str(recipe)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(first) == len(second) == 20
    assert max(abs(a - b) / a for a, b in zip(first, second, strict=True)) < 1e-4
    assert first[-1] < first[0] / (1.5 if task == "ctc" else 1.05)  # there is something to agree on
    state = json.loads((tmp_path / "two" / "checkpoint-000020" / "training.json").read_text())
    assert len(state["random"]) == 2


def test_accumulating_is_as_one_large_batch_with_batch_norms_frozen(tones, tmp_path):
    common = {"config": STILL, "freeze_batch_norm": True, "max_steps": 8}
    finetune(recipe_of(tones, tmp_path / "one", batch_seconds=8.0, **common))
    finetune(recipe_of(tones, tmp_path / "four", batch_seconds=2.0, accumulate=4, **common))
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert max(abs(a - b) / a for a, b in zip(one, four, strict=True)) < 1e-5
    first, second = weights(tmp_path / "one"), weights(tmp_path / "four")
    assert max((first[name].float() - second[name].float()).abs().max().item() for name in first) < 1e-4


# --- what is kept as it is


def test_what_is_frozen_stays(tones, tmp_path):
    recipe = recipe_of(
        tones, tmp_path, config=STILL, max_steps=4, freeze_encoder_steps=2, freeze_feature_encoder=True, save_every=1,
        keep_last=9, freeze_batch_norm=True,
    )  # fmt: skip
    finetune(recipe)
    saved = [load_file(tmp_path / f"checkpoint-{step:06d}" / "model.safetensors") for step in (1, 2, 4)]
    changed = {name for name in saved[0] if not torch.equal(saved[0][name], saved[1][name])}
    assert changed == {"lm_head.weight", "lm_head.bias"}
    later = {name for name in saved[1] if not torch.equal(saved[1][name], saved[2][name])}
    assert "wav2vec2_conformer.encoder.layers.0.ffn1.output_dense.weight" in later
    assert not any(name.startswith("wav2vec2_conformer.feature_extractor.") for name in later)
    assert not any("running_" in name or "pos_conv_embed" in name for name in later)


def test_old_checkpoints_go_and_the_best_stays(tones, tmp_path):
    recipe = recipe_of(tones, tmp_path, config=STILL, valid=True, eval_every=2, save_every=2, max_steps=8, keep_last=1)
    finetune(recipe)
    best = json.loads((tmp_path / "best.json").read_text())["checkpoint"]
    names = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert names == {best, "checkpoint-000008"}
    valid = {line["step"]: line["loss"] for line in read_metrics(tmp_path) if line["kind"] == "valid"}
    assert int(best[-6:]) == min(valid, key=valid.__getitem__)


@pytest.mark.parametrize(("task", "metric"), [("sequence", "accuracy"), ("xvector", "eer"), ("frame", "der")])
def test_other_tasks_learn_and_are_scored(tones, tmp_path, task, metric):
    recipe = recipe_of(
        tones, tmp_path, task=task, valid=True, best=metric, max_steps=30, config=STILL, batch_seconds=8.0
    )
    outcome = finetune(recipe)
    curve = losses(tmp_path)
    assert curve[-1] < 0.8 * curve[0]
    assert 0 <= outcome.scores[metric] <= 1
    model = getattr(wavconformer, {
        "sequence": "Wav2Vec2ConformerForSequenceClassification",
        "xvector": "Wav2Vec2ConformerForXVector",
        "frame": "Wav2Vec2ConformerForAudioFrameClassification",
    }[task]).from_pretrained(outcome.model)  # fmt: skip
    if task != "frame":
        assert set(model.config.id2label.values()) == {"A", "B", "C"}


def test_new_class_vectors_of_speakers_begin_short(tones, tmp_path):
    recipe = recipe_of(tones, tmp_path, task="xvector", max_steps=1, config={**STILL, "initializer_range": 0.05})
    fresh = start(recipe).model
    assert fresh.objective.weight.std().item() == pytest.approx(0.05, rel=0.5)
    saved = fresh.objective.weight.detach().clone()
    fresh.save_pretrained(tmp_path / "init")
    start(recipe).feature_extractor.save_pretrained(tmp_path / "init")
    again = start(replace(recipe, model=replace(recipe.model, init=str(tmp_path / "init")))).model
    assert torch.equal(again.objective.weight, saved)  # trained ones stay as they are


def test_bfloat16_and_gradient_checkpointing(tones, tmp_path):
    finetune(recipe_of(tones, tmp_path / "plain", config=STILL, max_steps=3))
    finetune(recipe_of(tones, tmp_path / "again", config=STILL, max_steps=3, gradient_checkpointing=True))
    finetune(recipe_of(tones, tmp_path / "half", config=STILL, max_steps=3, precision="bfloat16"))
    plain, again, half = (losses(tmp_path / name) for name in ("plain", "again", "half"))
    assert again == pytest.approx(plain, rel=1e-5)
    assert half == pytest.approx(plain, rel=0.05)
    assert half != plain
