"""Does a run depend on how its updates are parted? Loss curves of two processes, and of accumulation, beside one batch.

    python -m benchmarks.parted [--steps 20]

Each run is a command as a user types it: `wavconformer finetune` or `pretrain` in one process, and by
`accelerate launch` in two (gloo, on a CPU). Dropout, LayerDrop and SpecAugment are off; where batches are accumulated,
batch norms are frozen. In pretraining the quantizer's logits are so far apart that Gumbel noise, of which each process
has its own, decides nothing; where batches are accumulated the diversity loss is off, since each of them has its own
codebook usage. Printed are the largest relative differences of the losses and of the
gradient norms, of which metrics.jsonl has six digits; the exit code is 1 where one of a loss is above 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.loops import SAMPLES
from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForPreTraining, Wav2Vec2FeatureExtractor, load_audio
from wavconformer.data.prepare import prepare
from wavconformer.training.metrics import read_metrics
from wavconformer.training.recipe import Data, Logging, Model, Optim, Recipe, Trainer, write_recipe

RATE = 16_000
SECONDS = 1  # of each utterance: all alike, so that half the seconds are half the utterances
BATCH = 8  # utterances of an update
WORDS = ("TURN", "ON", "THE", "LIGHTS", "SET", "A", "TIMER")
MOST = 1e-4
STILL = {
    **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0),
    **dict.fromkeys(("final_dropout", "conformer_conv_dropout", "layerdrop"), 0.0),
}
SHAPE: dict[str, Any] = STILL | {
    "conv_dim": [32] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 192,
}
ALONE = [sys.executable, "-m"]
# On a machine without a GPU, --multi_gpu means gloo; --cpu would start one process alone.
TWO = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"),
]

# How updates are parted: launcher, parts, fields of the configuration in pretraining, settings of the trainer.
PARTED: dict[str, tuple[list[str], int, dict[str, Any], dict[str, Any]]] = {
    "two processes": (TWO, 2, {}, {}),
    "four batches accumulated": (ALONE, 4, {"diversity_loss_weight": 0.0}, {"freeze_batch_norm": True}),
}


def make_corpus(folder: Path) -> Path:
    """Stretches of the recordings that ship, with words at random; the prepared folder."""
    random = np.random.default_rng(0)
    speech = np.concatenate([load_audio(path) for path in sorted(SAMPLES.glob("*.flac"))])
    rows = []
    for number in range(10 * BATCH):
        start = int(random.integers(0, len(speech) - SECONDS * RATE))
        soundfile.write(folder / f"{number}.flac", speech[start : start + SECONDS * RATE], RATE)
        rows.append({"audio": f"{number}.flac", "text": " ".join(random.choice(WORDS, 2))})
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(folder / "all.jsonl", folder / "ready", vocabulary="build", workers=0)
    return folder / "ready"


def make_start(folder: Path) -> Path:
    """A model to pretrain, whose codes are chosen by its logits alone."""
    torch.manual_seed(0)
    model = Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig.preset("tiny", **SHAPE, mask_time_prob=0.65))
    with torch.no_grad():
        model.quantizer.weight_proj.weight.mul_(1e6)
    model.save_pretrained(folder / "start")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "start")
    return folder / "start"


def curves(recipe: Recipe, launcher: list[str]) -> np.ndarray:
    """The losses and gradient norms (2, N) of a command's run."""
    folder = Path(recipe.logging.folder)
    folder.mkdir(parents=True)
    path = write_recipe(recipe, folder)
    name = "pretrain" if recipe.task == "pretrain" else "finetune"
    command = [*launcher, "wavconformer", name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    lines = [line for line in read_metrics(folder) if line["kind"] == "train"]
    return np.array([[line[name] for line in lines] for name in ("loss", "grad_norm")])


def recipe_of(
    corpus: Path, start: Path | None, run: Path, steps: int, parts: int, config: dict[str, Any], **trainer: Any
) -> Recipe:
    """A recipe whose batches hold a part of an update: of pretraining from `start`, of CTC from random weights."""
    task: dict[str, Any] = {"task": "pretrain", "model": Model(init=str(start), config=STILL | config)}
    if start is None:
        model = Model(preset="tiny", config=SHAPE | {"apply_spec_augment": False} | config)
        task = {"task": "ctc", "model": model}
    return Recipe(
        **task,
        data=Data(
            train=(str(corpus),), vocabulary=str(corpus / "vocab.json"), max_seconds=SECONDS, buckets=1, min_seconds=0.1
        ),
        optim=Optim(lr=1e-3, weight_decay=0.01),
        trainer=Trainer(max_steps=steps, batch_seconds=SECONDS * BATCH / parts, workers=0, save_every=10**6, **trainer),
        logging=Logging(folder=str(run), every=1, tensorboard=False),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = make_corpus(folder)
        for task, start in (("ctc", None), ("pretrain", make_start(folder))):
            for what, (launcher, parts, config, trainer) in PARTED.items():
                config = config if start else {}
                place = folder / task / what
                whole = curves(recipe_of(corpus, start, place / "whole", steps, 1, config, **trainer), ALONE)
                more = trainer if launcher is TWO else {**trainer, "accumulate": parts}
                split = curves(recipe_of(corpus, start, place / "parted", steps, parts, config, **more), launcher)
                loss, norm = (np.abs(whole - split) / np.abs(whole)).max(1).tolist()
                worst = max(worst, loss)
                print(
                    f"{task}, {what}: loss {whole[0, 0]:.4f} → {whole[0, -1]:.4f} in {whole.shape[1]} updates; ", end=""
                )
                print(f"largest relative difference {loss:.1e}, of gradient norms {norm:.1e}", flush=True)
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
