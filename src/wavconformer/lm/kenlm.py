"""KenLM's binary models, through the package kenlm."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError, WavConformerError
from wavconformer.files import first_line
from wavconformer.lm.interface import UNKNOWN

MAGIC = b"mmap lm http://kheafield.com/code"
MISSING = (
    "This language model is a binary of KenLM's, and reading it needs the package kenlm: "
    "pip install 'wavconformer[lm]'. An ARPA file needs nothing."
)


class KenlmMissingError(WavConformerError):
    """The package that a binary language model is read by isn't installed."""


def is_kenlm(path: Path) -> bool:
    """Whether a file is a binary of KenLM's."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class KenlmModel:
    """A model that KenLM holds; it is mapped into memory, so that processes share it.

    words: the vocabulary, read from the file's end where `build_binary` put it; <unk> is first.
    """

    def __init__(self, path: Path, words: Sequence[str] | None = None) -> None:
        """words: the vocabulary, if the file hasn't it. Raises DataError, and WavConformerError without kenlm."""
        try:
            import kenlm
        except ImportError as error:
            raise KenlmMissingError(MISSING) from error
        try:
            self.model: Any = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise DataError(f"The language model '{path}' can't be read: {first_line(error)}.") from error
        self.path: Path | None = path
        self.order = int(self.model.order)
        found = _vocabulary(path) if words is None else words
        known = [word for word in dict.fromkeys(found) if word in self.model and word != "<unk>"]
        if not known:
            raise DataError(
                f"The words of the language model '{path}' aren't in it, and a decoder must know them: build it with "
                "its vocabulary, which is build_binary's default, or put unigrams.txt beside it."
            )
        self.words: Sequence[str] = ["<unk>", *known]
        self._index = {word: number for number, word in enumerate(self.words)}

    def index(self, word: str) -> int:
        """The number of a word, 0 where the model hasn't it."""
        return self._index.get(word, UNKNOWN)

    def scorer(self) -> KenlmScorer:
        """What scores the words of one recording, and is then thrown away with the states that it met."""
        return KenlmScorer(self)


class KenlmScorer:
    """Gives numbers to KenLM's states, and asks for each word in each state once."""

    def __init__(self, model: KenlmModel) -> None:
        import kenlm

        self._new: Any = kenlm.State
        self._model = model.model
        self._words = model.words
        self._states: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._known: dict[tuple[int, int], tuple[float, int]] = {}

    def start(self, boundary: bool = True) -> int:
        """The state after <s>, or with no history at all."""
        state = self._new()
        (self._model.BeginSentenceWrite if boundary else self._model.NullContextWrite)(state)
        return self._number(state)

    def score(
        self, states: NDArray[np.int64], words: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """log10 of the probabilities (N,) of words (N,) in states (N,), and the states (N,) after them."""
        found = [self._score(*pair) for pair in zip(states.tolist(), words.tolist(), strict=True)]
        return np.array([logp for logp, _ in found], np.float64), np.array([state for _, state in found], np.int64)

    def _score(self, state: int, word: int) -> tuple[float, int]:
        known = self._known.get((state, word))
        if known is None:
            after = self._new()
            logp = self._model.BaseScore(self._states[state], self._words[word], after)
            known = self._known[state, word] = (logp, self._number(after))
        return known

    def _number(self, state: Any) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number


def _vocabulary(path: Path) -> list[str]:
    """The words at the end of a binary, each with a zero behind it, <unk> first; nothing where they aren't there."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        first = content.rfind(b"<unk>\0")
        text = content[first:] if first >= 0 else b""
    return text.decode("utf-8", errors="replace").split("\0")
