"""Tiny corpora for the tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def tone(seconds: float, pitch: float = 440.0, rate: int = RATE) -> np.ndarray:
    """A tone (S,)."""
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_audio(path: Path, seconds: float = 0.5, pitch: float = 440.0, rate: int = RATE) -> Path:
    """A recording of a tone, of the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, pitch, rate), rate)
    return path


def librispeech(folder: Path, speakers: int = 2, utterances: int = 2, seconds: float = 0.5) -> Path:
    """Folders speaker/chapter with recordings and transcripts."""
    for speaker in range(1, speakers + 1):
        place = folder / str(speaker) / "7"
        lines = []
        for number in range(utterances):
            name = f"{speaker}-7-{number:04d}"
            write_audio(place / f"{name}.flac", seconds + 0.1 * number, 200.0 + 20 * number)
            lines.append(f"{name} THE TEXT {'AB'[number % 2]}\n")
        (place / f"{speaker}-7.trans.txt").write_text("".join(lines), encoding="utf-8")
    return folder
