"""Estimates n-gram models: interpolated modified Kneser-Ney.

Chen & Goodman 1998 ("An empirical study of smoothing techniques for language modeling", TR-10-98), section 3 and
equation 26 for the discounts; pruning and the details of sentence marks as Heafield et al. 2013 have them, so that the
numbers are those of KenLM's lmplz.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError
from wavconformer.lm.ngram import BEGIN, END, UNK, NgramModel
from wavconformer.lm.trie import OUTSIDE, Trie

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts for an order whose counts don't give any, as in small or artificial text; those of lmplz."""

_MARKS = (UNK, BEGIN, END)
_LOGP_OF_BEGIN = -99.0  # <s> is given, never predicted


@dataclass(frozen=True)
class Estimate:
    """A model, and what it was made of.

    sentences, tokens: of the text; the ends of sentences aren't counted.
    fallbacks: orders whose discounts are FALLBACK, for the text is small.
    """

    model: NgramModel
    sentences: int
    tokens: int
    fallbacks: tuple[int, ...]


class Corpus:
    """Sentences as numbers of words, with their marks, one after the other."""

    def __init__(self) -> None:
        self._index = {mark: number for number, mark in enumerate(_MARKS)}
        self._ids = array("i")
        self.sentences = 0

    def add(self, words: Sequence[str]) -> None:
        """Takes one sentence; an empty one is nothing. Raises DataError where a sentence mark is among its words."""
        if not words:
            return
        for mark in _MARKS:
            if mark in words:
                raise DataError(f"The text holds '{mark}', which marks sentences or unknown words in a language model.")
        index = self._index
        self._ids.append(1)
        self._ids.extend([index.setdefault(word, len(index)) for word in words])
        self._ids.append(2)
        self.sentences += 1

    @property
    def words(self) -> list[str]:
        """The vocabulary: <unk>, <s>, </s>, and the words as they first appear."""
        return list(self._index)

    @property
    def ids(self) -> NDArray[np.int32]:
        """All sentences, <s> w … w </s> each."""
        return np.frombuffer(self._ids, np.int32) if self._ids else np.zeros(0, np.int32)


def estimate(
    text: Iterable[Sequence[str]] | Corpus,
    order: int = 4,
    prune: Sequence[int] = (),
    progress: Callable[[str], None] = lambda doing: None,
) -> Estimate:
    """The model of a text.

    text: sentences, each a sequence of words.
    order: the longest n-grams' words, from 1 on.
    prune: for each order, from unigrams on, the count up to which n-grams are left out; the last holds for higher
        orders too. Numbers must not fall, and that of unigrams must be 0.
    progress: is told what is done.

    At most about 120 bytes a word of text. Raises DataError for a text without words, ValueError for settings.
    """
    if order < 1:
        raise ValueError(f"order is {order}, but must be at least 1.")
    thresholds = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))][:order]
    if thresholds[0] != 0 or sorted(thresholds) != thresholds:
        raise ValueError(f"prune is {list(prune)}, but must begin with 0 and never fall, as [0, 0, 1].")
    if not isinstance(text, Corpus):
        corpus = Corpus()
        for sentence in text:
            corpus.add(sentence)
        text = corpus
    if not text.sentences:
        raise DataError("There is no word in the text that a language model could be made of.")
    counted = _count(text.ids, len(text.words), order, progress)
    progress("estimating")
    model, fallbacks = _estimated(text.words, counted, thresholds)
    return Estimate(model, text.sentences, len(text.ids) - 2 * text.sentences, fallbacks)


@dataclass(frozen=True)
class _Level:
    """The n-grams of one order, sorted by key; a number within the level is a place here.

    keys: place of the history in the level below · vocabulary + last word. counts: how often they are in the text.
    suffixes: the places, in the level below, of the n-grams without their first word.
    begins: whether an n-gram begins with <s>.
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    suffixes: NDArray[np.int64]
    begins: NDArray[np.bool_]


def _count(ids: NDArray[np.int32], width: int, order: int, progress: Callable[[str], None]) -> list[_Level]:
    progress("counting 1-grams")
    counts = np.bincount(ids, minlength=width).astype(np.int64)
    words = np.arange(width)
    levels = [_Level(words, counts, np.zeros(width, np.int64), words == 1)]
    places = ids.astype(np.int32)  # of the n-gram that begins at each word of the text
    # The last word of an n-gram must belong to its first one's sentence: no <s> but as the first.
    inside = np.ones(len(ids), bool)
    for number in range(2, order + 1):
        progress(f"counting {number}-grams")
        inside = inside[:-1] & (ids[number - 1 :] != 1)
        keys = places[: len(inside)][inside] * np.int64(width) + ids[number - 1 :][inside]
        unique, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        starts = np.flatnonzero(inside)[first]
        levels.append(_Level(unique, counts, places[starts + 1].astype(np.int64), ids[starts] == 1))
        places = places[: len(inside)].copy()
        places[inside] = inverse
    return levels


def _adjusted(levels: list[_Level]) -> list[NDArray[np.int64]]:
    """Below the highest order how many different words precede an n-gram; <s> … has none, and keeps its count."""
    counts = []
    for level, above in pairwise(levels):
        different = np.bincount(above.suffixes, minlength=len(level.keys))
        counts.append(np.where(level.begins, level.counts, different))
    return [*counts, levels[-1].counts]


def _discounts(adjusted: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """D of n-grams with counts 0, 1, 2 and 3 or more; None where the counts of counts don't give any."""
    n1, n2, n3, n4 = (float(np.count_nonzero(adjusted == count)) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return None
    y = n1 / (n1 + 2 * n2)
    found = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return found if (found[1:] > 0).all() else None


def _estimated(words: list[str], levels: list[_Level], thresholds: Sequence[int]) -> tuple[NgramModel, tuple[int, ...]]:
    width, fallbacks = len(words), []
    lower = np.full(1, 1 / (width - 1))  # uniform over all that can be predicted: <unk> too, <s> not
    kept_before = np.zeros(1, np.int64)  # node of each n-gram of the level below, OUTSIDE of one that is pruned
    keys, logp, backoffs, starts = [], [np.zeros(1)], [np.zeros(1)], [1]
    for number, (level, counts, threshold) in enumerate(zip(levels, _adjusted(levels), thresholds, strict=True), 1):
        if number == 1:
            counts = np.where(level.keys == 1, 0, counts)  # <s> is never predicted
        discounts = _discounts(counts)
        if discounts is None:
            discounts = np.array([0, *FALLBACK])
            fallbacks.append(number)
        kept = level.counts > threshold if number > 1 else np.ones(width, bool)
        history, last = level.keys // width, level.keys % width
        size = len(lower) if number > 1 else 1
        total = np.bincount(history, counts, size)
        discounted = np.minimum(discounts[np.minimum(counts, 3)], counts)
        # What n-grams lose by their discounts, and all that the pruned ones had, is shared out by the back-off.
        free = np.bincount(history, np.where(kept, discounted, counts), size)
        with np.errstate(invalid="ignore", divide="ignore"):
            gamma = free / total
        suffix = lower[level.suffixes] if number > 1 else lower[0]
        probability = np.where(kept, counts - discounted, 0) / total[history] + gamma[history] * suffix
        if number > 1:
            followed = np.bincount(history[kept], minlength=size) > 0
            with np.errstate(divide="ignore"):
                backoff = np.where(followed & (total > 0), np.log10(gamma), 0.0)
            backoffs.append(backoff[kept_before != OUTSIDE])
        nodes = np.full(len(level.keys), OUTSIDE, np.int64)
        nodes[kept] = starts[-1] + np.arange(np.count_nonzero(kept))
        keys.append(kept_before[history[kept]] * width + last[kept])
        logp.append(np.log10(probability[kept]))
        starts.append(starts[-1] + np.count_nonzero(kept))
        lower, kept_before = probability, nodes
    backoffs.append(np.zeros(starts[-1] - starts[-2]))
    logp[1][1] = _LOGP_OF_BEGIN
    model = NgramModel(
        words,
        Trie(np.concatenate(keys), width),
        np.concatenate(logp).astype(np.float32),
        np.concatenate(backoffs).astype(np.float32),
        starts,
    )
    return model, tuple(fallbacks)
