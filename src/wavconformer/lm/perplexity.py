"""How well a language model foresees a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError
from wavconformer.lm.interface import UNKNOWN, LanguageModel, Scorer

_TOGETHER = 1000  # sentences that are scored side by side


@dataclass(frozen=True)
class Perplexity:
    """Of a text under a model.

    value: 10^(-mean log10 probability) over words and ends of sentences, unknown words included, as <unk> has them.
    known: the same without the unknown words. tokens: words and ends of sentences.
    unknown: words that the model hasn't. sentences: of the text.
    """

    value: float
    known: float
    tokens: int
    unknown: int
    sentences: int

    def __str__(self) -> str:
        return (
            f"perplexity {self.value:.2f}, {self.known:.2f} without unknown words; {self.sentences:,} sentences, "
            f"{self.tokens:,} tokens with their ends, {self.unknown:,} unknown"
        )


def perplexity(model: LanguageModel, text: Iterable[Sequence[str]]) -> Perplexity:
    """The perplexity of sentences; empty ones don't count. Raises DataError where there is no word."""
    scorer = model.scorer()
    total = of_unknown = 0.0
    tokens = unknown = sentences = 0
    for group in _groups((words for words in text if words), _TOGETHER):
        numbers, lengths = _numbers(model, group)
        logp = _scored(scorer, numbers, lengths)
        real = np.arange(numbers.shape[1]) < lengths[:, None]
        strange = real & (numbers == UNKNOWN)
        total += float(logp[real].sum())
        of_unknown += float(logp[strange].sum())
        tokens += int(lengths.sum())
        unknown += int(strange.sum())
        sentences += len(group)
    if not sentences:
        raise DataError("There is no word in the text.")
    return Perplexity(
        10 ** (-total / tokens), 10 ** (-(total - of_unknown) / (tokens - unknown)), tokens, unknown, sentences
    )


def _groups(text: Iterable[Sequence[str]], size: int) -> Iterator[list[Sequence[str]]]:
    sentences = iter(text)
    while group := list(islice(sentences, size)):
        yield group


def _numbers(model: LanguageModel, group: list[Sequence[str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The words' numbers with the sentences' ends (N, longest), and how many are real (N,)."""
    rows = [[*map(model.index, words), model.index("</s>")] for words in group]
    lengths = np.array([len(row) for row in rows])
    numbers = np.full((len(rows), lengths.max()), UNKNOWN)
    for place, row in enumerate(rows):
        numbers[place, : len(row)] = row
    return numbers, lengths


def _scored(scorer: Scorer, numbers: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    logp = np.zeros(numbers.shape)
    states = np.full(len(numbers), scorer.start())
    for column in range(numbers.shape[1]):
        here = np.flatnonzero(lengths > column)
        logp[here, column], states[here] = scorer.score(states[here], numbers[here, column])
    return logp
