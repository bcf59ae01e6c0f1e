"""Kaldi's data folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from wavconformer.data.sources.lines import check_stretch, number_of, numbered
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError


def read_kaldi(folder: Path) -> Iterator[Utterance]:
    """The utterances of wav.scp, or where there is `segments` of that; with text and utt2spk as far as there are.

    Relative paths are as seen from the folder where such a file is there, else from the working directory, as
    Kaldi's are. Memory stays flat where the files are in one order, as Kaldi wants them.

    Raises DataError for pipes and archives in wav.scp, and for lines that can't be read.
    """
    texts, speakers = _Column(folder / "text"), _Column(folder / "utt2spk")
    if (folder / "segments").is_file():
        recordings = {name: _path(folder, name, path) for name, path in _pairs(folder / "wav.scp")}
        for number, line in numbered(folder / "segments"):
            where = f"'{folder / 'segments'}', line {number}"
            parts = line.split()
            if len(parts) != 4:
                raise DataError(f"{where}: must be 'utterance recording start end', not {line!r}.")
            name, recording, start, end = parts
            if recording not in recordings:
                raise DataError(f"{where}: wav.scp has no recording '{recording}'.")
            first = number_of(start, f"{where}: start") or 0.0
            last = None if end == "-1" else number_of(end, f"{where}: end")
            check_stretch(first, last, where)
            yield Utterance(
                id=name,
                audio=recordings[recording],
                start=first,
                end=last,
                text=texts.take(name),
                speaker=speakers.take(name),
            )
        return
    for name, path in _pairs(folder / "wav.scp"):
        yield Utterance(id=name, audio=_path(folder, name, path), text=texts.take(name), speaker=speakers.take(name))


class _Column:
    """A file of "id value" lines, asked for one id after another; read on only as far as it must be."""

    def __init__(self, path: Path) -> None:
        self._lines = _pairs(path) if path.is_file() else iter(())
        self._passed: dict[str, str] = {}

    def take(self, name: str) -> str | None:
        """The value of that id, once; None where there is none."""
        if name in self._passed:
            return self._passed.pop(name)
        for key, value in self._lines:
            if key == name:
                return value
            self._passed[key] = value
        return None


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for _, line in numbered(path):
        name, *value = line.strip().split(maxsplit=1)
        yield name, value[0] if value else ""


def _path(folder: Path, name: str, path: str) -> str:
    if path.endswith("|") or path.startswith("|"):
        raise DataError(
            f"'{folder / 'wav.scp'}': the recording '{name}' is the pipe '{path}', and commands from a data folder are "
            "never run. Write its output to a file, as wav or flac, and name that."
        )
    if re.search(r"\.ark:\d+$", path) or not path:
        raise DataError(
            f"'{folder / 'wav.scp'}': the recording '{name}' must be the path of an audio file, not {path!r}: copy "
            "archives out into wav files (wav-copy)."
        )
    inside = folder / path
    return str(inside if inside.exists() else path)
