"""Text as the sentences that language models are made of and measured on."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal

from wavconformer.errors import DataError
from wavconformer.files import first_line

Case = Literal["keep", "upper", "lower"]
Unit = Literal["word", "letter"]
SPACE = "|"
"""How a model of letters writes the space between words."""


def read_sentences(paths: Iterable[Path], case: Case = "keep", unit: Unit = "word") -> Iterator[list[str]]:
    """The sentences of text files, one a line, UTF-8, plain or with gzip; "-" is the standard input.

    case: what becomes of the letters. unit: "letter" parts words into letters, with "|" between words.

    Raises DataError for a file that can't be read.
    """
    for path in paths:
        try:
            with _opened(path) as file:
                for line in file:
                    words = (line.upper() if case == "upper" else line.lower() if case == "lower" else line).split()
                    yield list(SPACE.join(words)) if unit == "letter" else words
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"The text '{path}' can't be read: {first_line(error)}.") from error


def _opened(path: Path) -> IO[str]:
    if str(path) == "-":
        return open(sys.stdin.fileno(), encoding="utf-8", closefd=False)
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8") if is_gzip else path.open(encoding="utf-8")
