"""Small checkpoints and data sets to evaluate."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def heard(transcriber, sample_texts) -> dict[str, str]:
    """What the shipped checkpoint hears in the samples, by file, but for the last word, which is none of its."""
    texts = {Path(path).name: transcriber(path).text for path in sample_texts}
    last = list(texts)[-1]
    return texts | {last: " ".join([*texts[last].split()[:-1], "YESTERDAY"])}


@pytest.fixture
def manifest(tmp_path, heard) -> Path:
    """The six sample recordings, beside their manifest, spoken by two.

    Of their texts the shipped checkpoint makes one error, whatever it can and can't hear: see above.
    """
    path = tmp_path / "data" / "samples.tsv"
    (path.parent / "audio").mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("audio\ttext\tspeaker\tlabel\troom\n")
        for number, (name, text) in enumerate(heard.items()):
            shutil.copy(SAMPLES / name, path.parent / "audio")
            file.write(f"audio/{name}\t{text}\t{'ab'[number % 2]}\t{number % 2}\troom {number // 3}\n")
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
