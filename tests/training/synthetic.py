"""A corpus of tones that spell letters, and recipes for models that are trained on it in seconds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tests.data.corpora import RATE

from wavconformer.data.prepare import prepare
from wavconformer.training.recipe import Data, Logging, Model, Optim, Recipe, Schedule, Trainer

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "conv_depthwise_kernel_size": 7,
    "num_codevectors_per_group": 8,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_negatives": 5,
    "classifier_proj_size": 8,
    "tdnn_dim": [16, 16, 16],
    "tdnn_kernel": [3, 1, 1],
    "tdnn_dilation": [1, 1, 1],
    "xvector_output_dim": 8,
    "final_dropout": 0.0,
    "position_embeddings_type": "relative",
    "mask_time_prob": 0.0,
}
STILL = {"apply_spec_augment": False}  # the presets' dropouts are 0
PITCHES = {"A": 300, "B": 800, "C": 2000, "D": 500}
TEXTS = ("ABC", "CAB", "BAC", "AAB", "CCA", "BCB", "ACB", "BBA")


def spoken(text: str, random: np.random.Generator) -> np.ndarray:
    """One second: a tone of 0.2 s for each letter, and a little noise."""
    samples = np.zeros(RATE, np.float32)
    time = np.arange(3200) / RATE
    for number, letter in enumerate(text):
        samples[number * 4000 : number * 4000 + 3200] = 0.3 * np.sin(2 * np.pi * PITCHES[letter] * time)
    return samples + 0.01 * random.standard_normal(RATE).astype(np.float32)


def make_corpus(folder: Path, texts: tuple[str, ...] = TEXTS, **changed: str) -> Path:
    """A prepared corpus with vocab.json, and who.rttm; the folder. changed: texts that are written otherwise."""
    random = np.random.default_rng(0)
    source = folder / "source"
    source.mkdir(parents=True)
    rows, turns = [], []
    for number, text in enumerate(texts):
        name = f"u{number}"
        soundfile.write(source / f"{name}.wav", spoken(text, random), RATE)
        rows.append({"id": name, "audio": f"{name}.wav", "text": text, "label": text[0], "speaker": f"s{number % 2}"})
        turns.append(f"SPEAKER {name} 1 0 0.5 <NA> <NA> a <NA> <NA>\nSPEAKER {name} 1 0.5 0.4 <NA> <NA> b <NA> <NA>\n")
    (source / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(source / "all.jsonl", folder, vocabulary="build", workers=0)
    (folder / "who.rttm").write_text("".join(turns))
    if changed:
        manifest = folder / "manifest.jsonl"
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        manifest.write_text(
            "".join(json.dumps(line | {"text": changed.get(line["id"], line["text"])}) + "\n" for line in lines)
        )
    return folder


def recipe_of(
    corpus: Path, run: Path, *, task: str = "ctc", config: dict[str, Any] | None = None, **settings: Any
) -> Recipe:
    """A recipe on a corpus; settings that belong to no other section are the trainer's."""
    model = {"init": settings.pop("init", None), "adapter": settings.pop("adapter", None)}
    if "filterbank" in settings:
        model["filterbank"] = settings.pop("filterbank")
    if "lora" in settings:
        model["lora"] = settings.pop("lora")
    optim = Optim(lr=settings.pop("lr", 3e-3), weight_decay=settings.pop("weight_decay", 0.0))
    data = Data(
        train=(str(corpus),),
        valid=(str(corpus),) if settings.pop("valid", False) else (),
        vocabulary=str(corpus / "vocab.json") if task == "ctc" else None,
        rttm=str(corpus / "who.rttm") if task == "frame" else None,
        max_seconds=settings.pop("max_seconds", 2.0),
        buckets=1,
    )
    shape = SHAPE if model["init"] is None else {}
    trainer = {"max_steps": 10, "batch_seconds": 4.0, "workers": 0, "save_every": 1000, "eval_every": 1000, "seed": 3}
    return Recipe(
        task=task,  # type: ignore[arg-type]
        data=data,
        model=Model(preset="tiny", config=shape | (config or {}), **model),
        optim=optim,
        schedule=Schedule(warmup=0.1, hold=0.5),
        trainer=Trainer(**trainer | settings),
        logging=Logging(folder=str(run), every=1, tensorboard=False),
    )


def with_logging(recipe: Recipe, **settings: Any) -> Recipe:
    return dataclasses.replace(recipe, logging=dataclasses.replace(recipe.logging, **settings))


def with_trainer(recipe: Recipe, **settings: Any) -> Recipe:
    return dataclasses.replace(recipe, trainer=dataclasses.replace(recipe.trainer, **settings))
