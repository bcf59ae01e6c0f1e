"""What several test modules share."""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import wavconformer
from wavconformer import cli
from wavconformer.files import ASSETS

# Small models run faster on one thread, and a busy machine then disturbs them less.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sample_texts() -> dict[str, str]:
    """What is said in the shipped sample recordings, by path."""
    folder = ASSETS / "samples"
    with (folder / "transcripts.tsv").open(encoding="utf-8") as file:
        return {str(folder / row["file"]): row["text"] for row in csv.DictReader(file, delimiter="\t")}


@pytest.fixture(scope="session")
def sample() -> Path:
    """One recording that the shipped checkpoint reads without an error."""
    return ASSETS / "samples" / "timer.flac"


@pytest.fixture(scope="session")
def transcriber() -> wavconformer.Transcriber:
    """The shipped checkpoint, ready to transcribe on the CPU."""
    return wavconformer.load_model(device="cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wavconformer", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def random() -> np.random.Generator:
    """A generator that draws the same in every run."""
    return np.random.default_rng(0)
