"""Text files read line by line, errors with the number of the line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wavconformer.errors import DataError


def opened(path: Path) -> IO[str]:
    """A text file in UTF-8, with or without its mark, unpacked where its name ends in .gz."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"'{path}' can't be read ({error.strerror}).") from error


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that aren't empty, without their ends, with their numbers from 1 on."""
    with opened(path) as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"'{path}' can't be read as text in UTF-8 ({error}).") from error


def number_of(value: object, what: str) -> float | None:
    """Seconds as given in a file; None for nothing."""
    if value is None or value == "":
        return None
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise DataError(f"{what} is {value!r}, and no number of seconds.")
    return seconds


def check_stretch(start: float, end: float | None, what: str) -> None:
    """Refuses a stretch that ends before it begins."""
    if end is not None and end <= start:
        raise DataError(f"{what} goes from {start:g} s to {end:g} s: its end must be behind its start.")
