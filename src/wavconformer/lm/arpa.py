"""The ARPA format of n-gram models: text, plain or with gzip."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError
from wavconformer.files import atomic, first_line
from wavconformer.lm.ngram import UNK, NgramModel
from wavconformer.lm.trie import OUTSIDE, ROOT, Trie

_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)$")
_LOGP_OF_UNKNOWN = -100.0  # what KenLM takes for a model without <unk>
_COMMENT = 100  # lines that may stand before \\data\\
_CHUNK = 100_000  # n-grams that are read or formatted at once
_BUFFER = 1 << 20


def read_arpa(path: Path) -> NgramModel:
    """Reads a model; some seconds for a million n-grams.

    Raises DataError with the line where the file isn't ARPA, breaks off, or lacks the history of an n-gram.
    """
    try:
        with gzip.open(path, "rb") if _is_gzip(path) else path.open("rb") as file:
            # A buffer of its own, as gzip's takes far longer to give a line.
            return _Reader(path, io.BufferedReader(cast(io.RawIOBase, file), _BUFFER)).read()
    except (OSError, EOFError) as error:
        raise DataError(f"The language model '{path}' can't be read: {first_line(error)}.") from error


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


class _Reader:
    def __init__(self, path: Path, lines: Iterable[bytes]) -> None:
        self._path = path
        self._lines = iter(lines)
        self._number = 0
        self._words: list[bytes] = []
        self._index: dict[bytes, int] = {}

    def read(self) -> NgramModel:
        counts = self._counts()
        keys: list[NDArray[np.int64]] = []
        logp, backoff = [np.zeros(1, np.float32)], [np.zeros(1, np.float32)]
        levels = [1]
        for order, count in enumerate(counts, 1):
            rows, values, weights = self._section(order, count)
            if order == 1:
                rows, values, weights = self._vocabulary(rows, values, weights)
            trie = Trie(np.concatenate(keys) if keys else np.zeros(0, np.int64), len(self._words))
            nodes = np.full(len(rows), ROOT)
            for column in rows[:, :-1].T:
                nodes = trie.step(nodes, column)
            if (nodes == OUTSIDE).any():
                row = rows[int(np.argmax(nodes == OUTSIDE))]
                text = b" ".join(self._words[word] for word in row).decode(errors="replace")
                raise DataError(f"The language model '{self._path}' has the n-gram '{text}', but not its history.")
            level, places = np.unique(nodes * len(self._words) + rows[:, -1], return_index=True)
            keys.append(level)
            logp.append(values[places])
            backoff.append(weights[places])
            levels.append(levels[-1] + len(level))
        return NgramModel(
            [word.decode("utf-8", errors="replace") for word in self._words],
            Trie(np.concatenate(keys), len(self._words)),
            np.concatenate(logp),
            np.concatenate(backoff),
            levels,
            self._path,
        )

    def _line(self) -> bytes:
        """The next line that isn't empty."""
        for line in self._lines:
            self._number += 1
            if line := line.strip():
                return line
        raise DataError(f"The language model '{self._path}' breaks off behind line {self._number}.")

    def _fail(self, line: bytes, expected: str) -> DataError:
        text = line[:60].decode(errors="replace")
        return DataError(f"The language model '{self._path}', line {self._number}: '{text}' is no {expected}.")

    def _counts(self) -> list[int]:
        for line in islice(self._lines, _COMMENT):
            self._number += 1
            if line.strip() == b"\\data\\":
                break
        else:
            raise DataError(f"'{self._path}' is neither an ARPA file (no \\data\\ in it) nor a binary of KenLM's.")
        counts: list[int] = []
        while match := _COUNT.match(line := self._line()):
            if int(match[1]) != len(counts) + 1:
                raise self._fail(line, f"count of {len(counts) + 1}-grams")
            counts.append(int(match[2]))
        if line != b"\\1-grams:" or not counts:
            raise self._fail(line, "count of n-grams, and not \\1-grams: either")
        return counts

    def _section(self, order: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Of the n-grams of an order the words (N, order), and log10 of probability and back-off, (N,) each."""
        try:
            rows = np.empty((count, order), np.int64)
            values, weights = np.empty(count, np.float32), np.zeros(count, np.float32)
        except (MemoryError, ValueError):  # ValueError: more than any array can have
            raise DataError(
                f"The language model '{self._path}' says that it has {count:,} {order}-grams, for which there isn't "
                "memory enough. If that isn't true the file is damaged: make it anew."
            ) from None
        if order == 1:
            self._index = {}
        first = 0
        while first < count:
            lines = list(islice(self._lines, min(_CHUNK, count - first)))
            if not lines:
                self._line()
            part = slice(first, first + len(lines))
            if self._read_alike(lines, rows[part], values[part], weights[part]):
                self._number += len(lines)
                first = part.stop
            else:
                first += self._read_each(lines, rows[part], values[part], weights[part])
        if not np.isfinite(values).all() or not np.isfinite(weights).all() or (values > 0).any():
            raise DataError(
                f"The language model '{self._path}' has {order}-grams whose log probability is no number ≤ 0."
            )
        expected = b"\\%d-grams:" % (order + 1)
        line = self._line()
        if line not in (expected, b"\\end\\"):
            raise self._fail(line, f"{expected.decode()} or \\end\\")
        return rows, values, weights

    def _read_alike(
        self,
        lines: list[bytes],
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> bool:
        """Reads n-grams that all have a back-off weight, or all none, as most have; False where they don't."""
        order, parts = rows.shape[1], b"".join(lines).split()
        width = len(parts) // len(lines)
        if len(parts) != width * len(lines) or width not in (order + 1, order + 2):
            return False
        try:
            values[:] = np.fromiter(map(float, parts[::width]), np.float32, len(lines))
            if width == order + 2:
                weights[:] = np.fromiter(map(float, parts[width - 1 :: width]), np.float32, len(lines))
            if order == 1:
                index, words = self._index, parts[1::width]
                rows[:, 0] = [index.setdefault(word, len(index)) for word in words]
            for column in range(order if order > 1 else 0):
                words = parts[column + 1 :: width]
                rows[:, column] = np.fromiter(map(self._index.__getitem__, words), np.int64, len(lines))
        except (ValueError, KeyError):
            return False
        return True

    def _read_each(
        self,
        lines: list[bytes],
        rows: NDArray[np.int64],
        values: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> int:
        """Reads n-grams one by one, and says how many; the rest of the lines is empty. Raises DataError."""
        order, number = rows.shape[1], 0
        for line in lines:
            self._number += 1
            parts = line.split()
            if not parts:
                continue
            try:
                values[number] = float(parts[0])
                if len(parts) == order + 2:
                    weights[number] = float(parts[-1])
                elif len(parts) != order + 1:
                    raise ValueError
                if order == 1:
                    rows[number, 0] = self._index.setdefault(parts[1], len(self._index))
                else:
                    rows[number] = [self._index[word] for word in parts[1 : order + 1]]
            except (ValueError, KeyError):
                raise self._fail(b" ".join(parts), f"{order}-gram of known words with its numbers") from None
            number += 1
        return number

    def _vocabulary(
        self, rows: NDArray[np.int64], values: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """The unigrams with <unk> as the first word."""
        unknown = UNK.encode()
        places = dict(self._index)
        if unknown not in places and b"<UNK>" in places:
            unknown = b"<UNK>"
        if unknown not in places:
            places[unknown] = len(places)
            values = np.append(values, np.float32(_LOGP_OF_UNKNOWN))
            weights = np.append(weights, np.float32(0))
            rows = np.append(rows, [[places[unknown]]], axis=0)
        self._words = [unknown, *(word for word in places if word != unknown)]
        self._index = {word: number for number, word in enumerate(self._words)}
        renumbered = np.array([self._index[word] for word in places])
        return renumbered[rows], values, weights


def write_arpa(model: NgramModel, path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Writes a model whole or not at all; with gzip where the name ends in .gz.

    progress: is told how many n-grams are written, and of how many.
    """
    trie, total = model.trie, len(model.trie) - 1
    parents, symbols = trie.parents, trie.symbols
    written = 0
    with atomic(path) as temporary, _opened(temporary, compress=path.suffix == ".gz") as file:
        counts = "".join(f"ngram {order}={count}\n" for order, count in enumerate(model.counts, 1))
        file.write(f"\\data\\\n{counts}")
        for order, (first, after) in enumerate(zip(model.levels, model.levels[1:], strict=False), 1):
            file.write(f"\n\\{order}-grams:\n")
            for begin in range(first, after, _CHUNK):
                nodes = np.arange(begin, min(begin + _CHUNK, after))
                words = []
                place = nodes
                for _ in range(order):
                    words.append([model.words[symbol] for symbol in symbols[place - 1].tolist()])
                    place = parents[place - 1]
                logp = (f"{value:.7g}" for value in model.logp[nodes].tolist())
                columns = [logp, map(" ".join, zip(*words[::-1], strict=True))]
                if order < model.order:
                    columns.append(f"{value:.7g}" for value in model.backoff[nodes].tolist())
                file.write("".join("\t".join(row) + "\n" for row in zip(*columns, strict=True)))
                written += len(nodes)
                progress(written, total)
        file.write("\n\\end\\\n")


@contextmanager
def _opened(path: Path, *, compress: bool) -> Iterator[IO[str]]:
    with (gzip.open if compress else open)(path, "wt", encoding="utf-8", newline="\n") as file:
        yield file
