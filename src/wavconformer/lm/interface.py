"""What a decoder asks of a language model, and how one is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError

UNKNOWN = 0
"""The number of <unk>, for whatever word the model hasn't."""


class Scorer(Protocol):
    """The probabilities of words after others. A state is the number of a history, as far back as the model looks."""

    def start(self, boundary: bool = True) -> int:
        """The state at a sentence's begin; without `boundary`, in the middle of nowhere."""
        ...

    def score(
        self, states: NDArray[np.int64], words: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """log10 of the probabilities (N,) of words (N,) in states (N,), and the states (N,) after them."""
        ...


class LanguageModel(Protocol):
    """An n-gram model of words, or of letters.

    order: how many words an n-gram has. words: its vocabulary; a word's number is its place, <unk> is 0.
    path: the file that it was read from, None for one that was made here.
    """

    order: int
    words: Sequence[str]
    path: Path | None

    def index(self, word: str) -> int:
        """The number of a word, UNKNOWN where the model hasn't it."""
        ...

    def scorer(self) -> Scorer:
        """What scores the words of one recording."""
        ...


def read_lm(path: str | os.PathLike[str], words: Sequence[str] | None = None) -> LanguageModel:
    """The model in a file: ARPA, plain or with gzip (.gz), or a binary of KenLM's.

    words: the vocabulary of a binary that was built without it.

    A binary needs the package kenlm (`pip install 'wavconformer[lm]'`); ARPA needs nothing. Raises DataError where the
    file is missing or broken, WavConformerError where the package is missing.
    """
    from wavconformer.lm.arpa import read_arpa
    from wavconformer.lm.kenlm import KenlmModel, is_kenlm

    path = Path(path)
    if path.is_dir():
        raise DataError(f"'{path}' is a folder, not a language model: name the .arpa or .bin in it.")
    if not path.is_file():
        raise DataError(f"There is no language model '{path}': check the spelling.")
    return KenlmModel(path, words) if is_kenlm(path) else read_arpa(path)
