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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Begins each module on one thread, whatever another has set: sums in another order are other sums."""
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


@pytest.fixture(scope="session")
def hesitant(transcriber, sample, tmp_path_factory) -> Path:
    """The shipped checkpoint, but less sure of C, as much as makes it miss the one of that sample, in its last word."""
    inputs = transcriber.processor(wavconformer.load_audio(sample), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        logits = transcriber.model(**inputs).logits[0]
    letter = transcriber.processor.tokenizer.convert_tokens_to_ids("C")
    lead = logits[:, letter] - logits.index_fill(1, torch.tensor(letter), -torch.inf).amax(-1)
    assert lead.max() > 0
    folder = tmp_path_factory.mktemp("hesitant")
    model = wavconformer.Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
    with torch.no_grad():
        model.lm_head.bias[letter] -= lead.max() + 2.0
    model.save_pretrained(folder)
    transcriber.processor.save_pretrained(folder)
    return folder


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
