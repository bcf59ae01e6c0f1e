"""Who speaks when: turns, RTTM files, and activity frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.data.sources.lines import number_of, numbered
from wavconformer.errors import DataError
from wavconformer.files import write_text


@dataclass(frozen=True, slots=True)
class Turn:
    """A speaker heard without a break. recording: its name; start, end: seconds from its start."""

    recording: str
    start: float
    end: float
    speaker: str


def read_rttm(path: str | os.PathLike[str]) -> list[Turn]:
    """The turns of an RTTM file, or of all files *.rttm of a folder: their SPEAKER lines; turns of no length are none.

    Raises DataError for a missing file, and with the line's number where one can't be read.
    """
    place = Path(path)
    files = sorted(place.glob("*.rttm")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"The folder '{place}' holds no file *.rttm.")
    turns = []
    for file in files:
        for number, line in numbered(file):
            fields = line.split()
            if fields[0] != "SPEAKER":  # others tell of noise, or of the speakers themselves
                continue
            where = f"'{file}', line {number}"
            if len(fields) < 8:
                raise DataError(
                    f"{where}: must be 'SPEAKER recording channel start duration <NA> <NA> name', but has "
                    f"{len(fields)} fields."
                )
            start = number_of(fields[3], f"{where}: start") or 0.0
            duration = number_of(fields[4], f"{where}: duration") or 0.0
            if duration:
                turns.append(Turn(fields[1], start, start + duration, fields[7]))
    return turns


def turns_by_recording(turns: Iterable[Turn]) -> dict[str, list[Turn]]:
    """The turns of each recording, by its name, in the order of their starts."""
    by_name: dict[str, list[Turn]] = {}
    for turn in turns:
        by_name.setdefault(turn.recording, []).append(turn)
    for own in by_name.values():
        own.sort(key=lambda turn: (turn.start, turn.end, turn.speaker))
    return by_name


def write_rttm(path: str | os.PathLike[str], turns: Iterable[Turn]) -> None:
    """Writes turns as an RTTM file, whole or not at all. Raises DataError for names with spaces: it can't hold them."""
    write_text(Path(path), rttm_text(turns))


def rttm_text(turns: Iterable[Turn]) -> str:
    """Turns as the text of an RTTM file. Raises DataError for names with spaces: it can't hold them."""
    lines = []
    for turn in turns:
        for name in (turn.recording, turn.speaker):
            if not name or name.split() != [name]:
                raise DataError(f"RTTM parts its fields by spaces: the name '{name}' can't be empty or have any.")
        lines.append(
            f"SPEAKER {turn.recording} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {turn.speaker} "
            "<NA> <NA>\n"
        )
    return "".join(lines)


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


def stretches(active: NDArray[Any], hop: float = 0.02) -> list[tuple[float, float, int]]:
    """The stretches in which each column of (T, K) is true, as start and end in seconds and the column.

    hop: seconds between frames; a stretch begins with its first frame and ends where the next would begin.
    """
    found = []
    for column in range(active.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], active[:, column].astype(np.int8), [0]])))
        found += [(start * hop, end * hop, column) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return [(float(start), float(end), column) for start, end, column in found]
