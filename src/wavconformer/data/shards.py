"""Shards of recordings that had no file of their own: tar files to which recordings are added."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import IO

SHARD_SIZE = 1 << 30  # bytes
_BLOCK = tarfile.BLOCKSIZE


class ShardWriter:
    """Writes recordings into audio.000000.tar and so on; known ones can be gone on with.

    folder: where the shards are. number, stop: the last shard that is there and the byte behind its last recording;
    what lies behind was never told of and is written over.
    """

    def __init__(self, folder: Path, number: int = 0, stop: int = 0, size: int = SHARD_SIZE) -> None:
        self._folder = folder
        self._number = number
        self._start = _padded(stop)
        self._size = size
        self._file: IO[bytes] | None = None

    def write(self, name: str, data: bytes) -> tuple[Path, int]:
        """Adds a recording; returns the shard and the recording's offset in it, for `Utterance`."""
        if self._file is None or self._file.tell() >= self._size:
            self._next()
        assert self._file is not None
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._file.write(header.tobuf(tarfile.PAX_FORMAT))
        offset = self._file.tell()
        self._file.write(data + bytes(_padded(len(data)) - len(data)))
        return self._path(), offset

    def flush(self) -> None:
        """Hands all that was written to the system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Ends the shard, as a tar file ends."""
        if self._file is not None:
            self._file.write(bytes(2 * _BLOCK))
            self._file.close()
            self._file = None

    def _next(self) -> None:
        if self._file is not None:
            self.close()
            self._number += 1
            self._start = 0
        path = self._path()
        self._file = path.open("r+b" if self._start and path.exists() else "wb")
        self._file.seek(self._start)
        self._file.truncate()

    def _path(self) -> Path:
        return self._folder / f"audio.{self._number:06d}.tar"


def shard_number(path: Path) -> int:
    """The number in a shard's name."""
    return int(path.name.split(".")[1])


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
