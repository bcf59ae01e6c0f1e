"""Small checkpoints and data sets to evaluate."""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wavconformer import (
    AutoFeatureExtractor,
    Wav2Vec2ConformerForAudioFrameClassification,
    Wav2Vec2ConformerForSequenceClassification,
    Wav2Vec2ConformerForXVector,
)
from wavconformer.files import ASSETS

SAMPLES = ASSETS / "samples"


@pytest.fixture
def run(run, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """Runs `wavconformer evaluate` in this process: exit code, standard output, standard error on one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "120")
        code, out, err = run("evaluate", *arguments)
        return code, out, " ".join(err.split())

    return call


@pytest.fixture
def manifest(tmp_path) -> Path:
    """The six sample recordings, beside their manifest, spoken by two."""
    with (SAMPLES / "transcripts.tsv").open(encoding="utf-8") as file:
        given = list(csv.DictReader(file, delimiter="\t"))
    path = tmp_path / "data" / "samples.tsv"
    (path.parent / "audio").mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("audio\ttext\tspeaker\tlabel\troom\n")
        for number, row in enumerate(given):
            shutil.copy(SAMPLES / row["file"], path.parent / "audio")
            file.write(f"audio/{row['file']}\t{row['text']}\t{'ab'[number % 2]}\t{number % 2}\troom {number // 3}\n")
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Heads that no one trained on the shipped backbone: "classes", "verification", "diarization"."""
    torch.manual_seed(0)
    labels = {"id2label": {0: "even", 1: "odd"}, "label2id": {"even": 0, "odd": 1}}
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {}
    for name, cls, settings in (
        ("classes", Wav2Vec2ConformerForSequenceClassification, labels),
        ("verification", Wav2Vec2ConformerForXVector, {}),
        ("diarization", Wav2Vec2ConformerForAudioFrameClassification, {}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the head is random, as it is meant to be
            model = cls.from_pretrained("tiny-en", **settings)
        made[name] = folder / name
        model.save_pretrained(made[name])
        AutoFeatureExtractor.from_pretrained("tiny-en").save_pretrained(made[name])
    return made
