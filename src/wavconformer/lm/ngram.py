"""A back-off n-gram model, as sorted arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavconformer.lm.interface import UNKNOWN
from wavconformer.lm.trie import OUTSIDE, ROOT, Trie

BEGIN, END, UNK = "<s>", "</s>", "<unk>"


class NgramModel:
    """p(w | h) is 10^logp of the n-gram (h, w), or, without one, 10^backoff of h times p(w | h without its first word).

    The n-grams are the nodes of a trie over word numbers; a state is the node of a history. Whole arrays of words are
    scored at once. About 30 bytes an n-gram.
    """

    def __init__(
        self,
        words: Sequence[str],
        trie: Trie,
        logp: NDArray[np.float32],
        backoff: NDArray[np.float32],
        levels: Sequence[int],
        path: Path | None = None,
    ) -> None:
        """words: the vocabulary, <unk> first.

        trie: of the n-grams. logp, backoff: log10, one for each of its nodes, the root included (0).
        levels: the first node of each order, beginning with that of the unigrams, 1, and the number of nodes.
        """
        self.words = words
        self.order = len(levels) - 1
        self.trie = trie
        self.logp = logp
        self.backoff = backoff
        self.levels = list(levels)
        self.path = path
        self._index = {word: number for number, word in enumerate(words)}
        self._suffixes = self._find_suffixes()
        self._states = self._find_states()

    @property
    def counts(self) -> list[int]:
        """How many n-grams there are of each order."""
        return [after - first for first, after in zip(self.levels, self.levels[1:], strict=False)]

    def index(self, word: str) -> int:
        """The number of a word, 0 where the model hasn't it."""
        return self._index.get(word, UNKNOWN)

    def scorer(self) -> NgramModel:
        """The model itself: it keeps nothing of what it scores."""
        return self

    def start(self, boundary: bool = True) -> int:
        """The state after <s>, or with no history at all."""
        if not boundary or BEGIN not in self._index:
            return ROOT
        node = self.trie.step(np.array([ROOT]), np.array([self._index[BEGIN]]))[0]
        return int(self._states[node]) if node != OUTSIDE else ROOT

    def score(
        self, states: NDArray[np.int64], words: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """log10 of the probabilities (N,) of words (N,) in states (N,), and the states (N,) after them."""
        nodes = self.trie.step(states, words)
        logp = np.zeros(len(states))
        states = states.copy()
        missing = np.flatnonzero(nodes == OUTSIDE)
        while len(missing):
            history = states[missing]
            logp[missing] += self.backoff[history]
            # Every word is a unigram, so that the root is the last stop.
            states[missing] = history = self._suffixes[history]
            nodes[missing] = self.trie.step(history, words[missing])
            missing = missing[nodes[missing] == OUTSIDE]
        return logp + self.logp[nodes], self._states[nodes]

    def _find_suffixes(self) -> NDArray[np.int64]:
        """Of each n-gram the longest one that is the same without some of its first words; the root of a unigram."""
        suffixes = np.zeros(len(self.trie), np.int64)
        parents, symbols = self.trie.parents, self.trie.symbols
        for first, after in zip(self.levels[1:], self.levels[2:], strict=False):
            history, words = suffixes[parents[first - 1 : after - 1]], symbols[first - 1 : after - 1]
            found = self.trie.step(history, words)
            missing = np.flatnonzero(found == OUTSIDE)
            while len(missing):  # pruned: what isn't there has a back-off of 1
                history[missing] = suffixes[history[missing]]
                found[missing] = self.trie.step(history[missing], words[missing])
                missing = missing[found[missing] == OUTSIDE]
            suffixes[first:after] = found
        return suffixes

    def _find_states(self) -> NDArray[np.int64]:
        """Of each n-gram the shortest history that says the same of what may follow (Li & Khudanpur 2008).

        One that nothing follows and that costs no back-off is as good as its suffix.
        """
        states = np.arange(len(self.trie))
        matters = self.backoff != 0
        matters[self.trie.parents] = True
        if self.order > 1:
            matters[self.levels[-2] :] = False
        matters[ROOT] = True
        for first, after in zip(self.levels, self.levels[1:], strict=False):
            here = np.arange(first, after)
            states[here] = np.where(matters[here], here, states[self._suffixes[here]])
        return states
