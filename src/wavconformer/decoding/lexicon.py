"""The words that a decoder knows, spelled in a model's tokens, and what a language model says of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError
from wavconformer.lm.trie import OUTSIDE, Trie

_FITTING = 0.5
"""Share of a model's words that must be spelled in the alphabet; all but names of other scripts should be."""
_STRANGE = 0.1
"""Share of words that aren't, from which on it is told."""


class Lexicon:
    """Words as paths through a trie of letters.

    words: (N,), those that the alphabet can spell. trie: over `letters`. ends: (N,), the node of each word.
    """

    def __init__(self, words: Iterable[str], symbols: Sequence[str | None]) -> None:
        """symbols: what each token reads as; those of several letters are several steps."""
        letters = sorted({letter for symbol in symbols if symbol and symbol != " " for letter in symbol})
        numbers = {letter: number for number, letter in enumerate(letters)}
        given = list(dict.fromkeys(words))
        lengths = np.fromiter(map(len, given), np.int64, len(given))
        spelled = _numbers("".join(given), letters)
        foreign = np.concatenate(([0], np.cumsum(spelled == OUTSIDE)))  # letters, before each
        ends = np.cumsum(lengths)
        fits = (lengths > 0) & (foreign[ends] == foreign[ends - lengths])
        self.words = list(compress(given, fits))
        self.foreign = list(compress(given, ~fits))
        self.trie, self.ends = Trie.of(spelled[np.repeat(fits, lengths)], lengths[fits], max(len(letters), 1))
        longest = max((len(symbol) for symbol in symbols if symbol), default=1)
        self._steps = np.full((longest, len(symbols)), OUTSIDE)
        for token, symbol in enumerate(symbols):
            for depth, letter in enumerate(symbol or ""):
                self._steps[depth, token] = numbers.get(letter, OUTSIDE)
        self._has_more = (self._steps[1:] != OUTSIDE).any(axis=0)

    def step(self, nodes: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nodes after tokens, which broadcast; OUTSIDE where no word goes on so."""
        after = self.trie.step(nodes, self._steps[0][tokens])
        if not self._has_more[tokens].any():
            return after
        for letters in self._steps[1:, :]:
            more = letters[tokens]
            after = np.where(more == OUTSIDE, after, self.trie.step(after, more))
        return after

    def best_below(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """At each node the largest of the words' values (N,) below or at it; -inf at nodes of none."""
        best = np.full(len(self.trie), -np.inf)
        np.maximum.at(best, self.ends, values)
        parents, nodes = self.trie.parents, np.arange(1, len(self.trie))
        # Levels follow each other, so a level's first node is the first child of the level above's first one.
        starts = [1]
        while starts[-1] < len(self.trie):
            starts.append(1 + int(np.searchsorted(parents, starts[-1])))
        for first, after in zip(starts[-2::-1], starts[:0:-1], strict=True):
            np.maximum.at(best, parents[first - 1 : after - 1], best[nodes[first - 1 : after - 1]])
        return best


def _numbers(text: str, letters: Sequence[str]) -> NDArray[np.int64]:
    """The place of each letter of a text among `letters`, which are sorted; OUTSIDE of one that isn't."""
    codes, alphabet = (
        np.frombuffer(one.encode("utf-32-le", "surrogatepass"), np.uint32) for one in (text, "".join(letters))
    )
    known = np.append(alphabet, np.iinfo(np.uint32).max)
    places = known.searchsorted(codes)
    return np.where(known[places] == codes, places, OUTSIDE)


def require_fit(lexicon: Lexicon, symbols: Sequence[str | None], name: str) -> None:
    """Raises DataError where most words of a language model can't be written with the acoustic model's letters.

    A UserWarning where many can't.
    """
    known, count = len(lexicon.words), len(lexicon.words) + len(lexicon.foreign)
    some = ", ".join(repr(word) for word in lexicon.foreign[:3])
    if known and known >= _FITTING * count:
        if len(lexicon.foreign) > _STRANGE * count:
            warnings.warn(
                f"Of the words of the language model {name} {len(lexicon.foreign) / count:.0%} can't be written with "
                f"the acoustic model's letters, as {some}, and are never found. It should be made of text that is "
                "spelled as it is spoken, without marks and digits.",
                stacklevel=2,
            )
        return
    letters = {letter for symbol in symbols if symbol for letter in symbol}
    for case, change in (("upper", str.upper), ("lower", str.lower)):
        fitting = sum(not set(change(word)) - letters for word in lexicon.foreign)
        if fitting > _FITTING * len(lexicon.foreign):
            other = "lower" if case == "upper" else "upper"
            raise DataError(
                f"The language model {name} doesn't fit: its words are in {other} case, as {some}, and the acoustic "
                f"model writes {case} case. Build it anew with `wavconformer lm build --case {case}`."
            )
    raise DataError(
        f"The language model {name} doesn't fit: of its {known + len(lexicon.foreign):,} words the acoustic model's "
        f"letters ({''.join(sorted(letters - {' '}))[:60]}) can write {known:,}; not, for example, {some}."
    )
