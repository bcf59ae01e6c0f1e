"""Who speaks when: RTTM files, and activity frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError
from wavconformer.training.sources.lines import number_of, numbered


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of a recording, in seconds, in which somebody speaks."""

    start: float
    end: float
    speaker: str


def read_rttm(path: Path) -> dict[str, list[Turn]]:
    """The turns of each recording, by its name, in the order of their starts.

    path: an RTTM file, or a folder with files *.rttm.

    Raises DataError for a missing file or a line that can't be read.
    """
    files = sorted(path.glob("*.rttm")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"The folder '{path}' holds no file *.rttm.")
    turns: dict[str, list[Turn]] = {}
    for file in files:
        for number, line in numbered(file):
            parts = line.split()
            if parts[0] != "SPEAKER":  # others tell of noise, or of the speakers themselves
                continue
            where = f"'{file}', line {number}"
            if len(parts) < 8:
                raise DataError(f"{where}: must be 'SPEAKER recording channel start duration <NA> <NA> name'.")
            start = number_of(parts[3], f"{where}: start") or 0.0
            duration = number_of(parts[4], f"{where}: duration") or 0.0
            turns.setdefault(parts[1], []).append(Turn(start, start + duration, parts[7]))
    for own in turns.values():
        own.sort(key=lambda turn: (turn.start, turn.end, turn.speaker))
    return turns


def activity(
    turns: Iterable[Turn],
    frames: int,
    speakers: int,
    *,
    start: float = 0.0,
    hop: float = 0.02,
    window: float = 0.025,
) -> NDArray[np.float32]:
    """Frame by frame who speaks: (frames, speakers) of 0 and 1.

    The columns are the speakers in the order in which they are first heard; further ones than `speakers` are refused
    with a DataError. A frame counts for whoever speaks at its middle.

    start: seconds of the recording at which the first frame begins.
    hop, window: seconds between frames, and that a frame sees.
    """
    middles = start + np.arange(frames) * hop + window / 2
    columns: dict[str, int] = {}
    active = np.zeros((frames, speakers), np.float32)
    for turn in turns:
        inside = (middles >= turn.start) & (middles < turn.end)
        if not inside.any():
            continue
        column = columns.setdefault(turn.speaker, len(columns))
        if column >= speakers:
            raise DataError(
                f"More than {speakers} speakers are heard: {', '.join(columns)}. Raise num_labels of the model, or "
                "cut the recording."
            )
        active[inside, column] = 1.0
    return active
