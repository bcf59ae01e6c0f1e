"""A prepared manifest as the trainer sees it: any utterance by its number, without the others."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavconformer.data.manifest import MANIFEST_FILE
from wavconformer.data.sources.table import utterance_of_line
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError
from wavconformer.files import atomic

_LOOK = 1 << 16  # bytes at each end of a manifest by which it is known again


@dataclass(frozen=True)
class _File:
    path: Path
    offsets: NDArray[np.int64]  # (n,) bytes at which the lines begin
    seconds: NDArray[np.float32]  # (n,)


class Corpus:
    """Utterances of one or more prepared manifests, by number.

    In memory are twelve bytes for each: where its line is, and its length. `seconds` (n,) are the lengths.
    """

    def __init__(self, files: Iterable[_File]) -> None:
        self._files = list(files)
        self._firsts = np.cumsum([0, *(len(file.offsets) for file in self._files)])
        self.seconds: NDArray[np.float32] = np.concatenate(
            [np.empty(0, np.float32), *(file.seconds for file in self._files)]
        )

    @classmethod
    def open(cls, *paths: str | os.PathLike[str]) -> Corpus:
        """The corpus of manifests that `wavconformer prepare` wrote, or of the folders that hold them.

        Raises DataError where one is missing or wasn't prepared.
        """
        return cls([_opened(Path(path)) for path in paths])

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, number: int) -> Utterance:
        if not 0 <= number < len(self):
            raise IndexError(f"There is no utterance {number} among {len(self)}.")
        which = int(np.searchsorted(self._firsts, number, side="right")) - 1
        file = self._files[which]
        # Opened anew each time, which costs little beside decoding, and needs no care in forked workers.
        try:
            with file.path.open("rb") as lines:
                lines.seek(int(file.offsets[number - self._firsts[which]]))
                line = lines.readline()
        except OSError as error:
            raise DataError(f"'{file.path}' can't be read any more ({error.strerror}).") from error
        return utterance_of_line(line, file.path.parent, f"'{file.path}', utterance {number}")

    def __iter__(self) -> Iterator[Utterance]:
        for file in self._files:
            with file.path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.strip():
                        continue
                    yield utterance_of_line(line, file.path.parent, f"'{file.path}', line {number}")

    def fingerprint(self) -> int:
        """A number that changes with the lengths and their order, by which a resumed run knows its corpus."""
        return zlib.crc32(self.seconds.tobytes())


def write_index(manifest: Path, offsets: Iterable[int], seconds: Iterable[float]) -> None:
    """Writes beside a manifest where its lines begin and how long its utterances are, so that it opens at once."""
    size, checksum = _identity(manifest)
    with atomic(_index_path(manifest)) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            offsets=np.fromiter(offsets, np.int64),
            seconds=np.fromiter(seconds, np.float32),
            identity=np.array([size, checksum], np.int64),
        )


def _opened(path: Path) -> _File:
    if path.is_dir():
        path = path / MANIFEST_FILE
    if not path.is_file() or path.suffix != ".jsonl":
        raise DataError(
            f"'{path}' is no prepared manifest: run `wavconformer prepare SOURCE -o FOLDER` and name its FOLDER."
        )
    index = _index_path(path)
    if index.is_file():
        with np.load(index, allow_pickle=False) as arrays:
            if tuple(arrays["identity"]) == _identity(path):
                return _File(path, arrays["offsets"], arrays["seconds"])
    return _scanned(path)


def _scanned(path: Path) -> _File:
    """The manifest read through, for one that was edited after it was prepared."""
    offsets, seconds, offset = [], [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    length = float(json.loads(line)["seconds"])
                    if not 0 <= length < math.inf:
                        raise ValueError(length)
                    seconds.append(length)
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"'{path}', line {number}: no prepared utterance, with its length in 'seconds'. Run "
                        f"`wavconformer prepare {path} -o FOLDER` and name the FOLDER."
                    ) from error
                offsets.append(offset)
            offset += len(line)
    return _File(path, np.array(offsets, np.int64), np.array(seconds, np.float32))


def _index_path(manifest: Path) -> Path:
    return manifest.with_suffix(".index.npz")


def _identity(manifest: Path) -> tuple[int, int]:
    """Size and checksum of both ends of a manifest: whether an index still belongs to it."""
    size = manifest.stat().st_size
    with manifest.open("rb") as file:
        ends = file.read(_LOOK)
        file.seek(max(0, size - _LOOK))
        ends += file.read(_LOOK)
    return size, zlib.crc32(ends)
