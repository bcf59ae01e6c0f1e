from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
# What each of them prints, in part.
SHOWN = {
    "align": "  minutes!",
    "batch": "largest difference between batch and single",
    "classify": "  stop ",
    "ctc": "SET AN ALARM FOR TWENTY THREE MINUTES",
    "diarize": "speaker1: ",
    "frame_classification": "frames of 40 ms",
    "language_model": "with LM   HOW LONG IS THE WAY FROM MADRID TO LONDON",
    "live": " s  a pause since ",
    "pretraining": "codevector perplexity",
    "sequence_classification": "seven\nsingle label: loss",
    "speakers": "4 vectors of 128",
    "subtitles": "00:00:0",
    "xvector": "not the same speaker",
}


def test_all_examples_are_known():
    assert [path.stem for path in EXAMPLES] == sorted(SHOWN)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(path)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*start from random values")
        runpy.run_path(str(path), run_name="__main__")
    shown = capsys.readouterr().out
    assert SHOWN[path.stem] in shown
    assert "nan" not in shown.lower()
