"""Words and phrases that a decoder is to prefer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

HOTWORD_WEIGHT = 10.0
"""Of a hot word where none is said, in nats."""

ASIDE = 1
"""The state within a word that is no hot one."""


def read_hotwords(texts: Iterable[str]) -> dict[str, float]:
    """Hot words given as TEXT or TEXT=WEIGHT. Raises ValueError where a weight is no number."""
    weights = {}
    for text in texts:
        name, sign, weight = text.rpartition("=")
        try:
            weights[name if sign else weight] = float(weight) if sign else HOTWORD_WEIGHT
        except ValueError:
            raise ValueError(f"'{text}' is not TEXT or TEXT=WEIGHT.") from None
    return weights


class HotWords:
    """An automaton that pays for hot words letter by letter, and takes back what a broken off one was paid.

    A state is what the last words and letters have in common with the begin of a phrase (Aho & Corasick 1975, over
    whole words); with no word delimiter among the tokens, a phrase may begin at any letter.

    step: (N, V), the state after each token. paid: (N, V), what is settled for good on that step, as a phrase is
    complete. credit: (N,), what is lent on account of a phrase that may still be completed. last: (N,), what is settled
    for good if nothing follows.
    """

    def __init__(self, weights: Mapping[str, float], symbols: Sequence[str | None]) -> None:
        """weights: of each phrase, in nats. symbols: what each token reads as, " " between words, None for nothing.

        Raises ValueError for a phrase with characters that no token has, and for a weight that is no finite number.
        """
        self.weights = dict(weights)
        self._by_words = " " in symbols
        phrases = self._cleaned(weights, symbols)
        self._children: list[dict[str, int]] = [{}, {}]
        self._texts = ["", ""]
        self._complete = [0.0, 0.0]
        self._lent = [0.0, 0.0]
        for phrase, weight in phrases.items():
            self._add(phrase, weight)
        states, width = len(self._texts), len(symbols)
        self.step: NDArray[np.int64] = np.zeros((states, width), np.int64)
        self.paid: NDArray[np.float64] = np.zeros((states, width))
        for state in range(states):
            for token, symbol in enumerate(symbols):
                after, paid = state, 0.0
                for letter in symbol or "":
                    after, more = self._after(after, letter)
                    paid += more
                self.step[state, token], self.paid[state, token] = after, paid
        self.credit = np.array(self._lent)
        self.last = np.array([self._ending(state) if self._by_words else 0.0 for state in range(states)])

    def _cleaned(self, weights: Mapping[str, float], symbols: Sequence[str | None]) -> dict[str, float]:
        letters = {letter for symbol in symbols if symbol for letter in symbol}
        phrases: dict[str, float] = {}
        for given, weight in weights.items():
            phrase = " ".join(given.split()) if self._by_words else "".join(given.split())
            if not phrase:
                raise ValueError("A hot word is empty.")
            if not np.isfinite(weight):
                raise ValueError(f"The hot word '{given}' has the weight {weight}, but it must be a finite number.")
            foreign = sorted(set(phrase) - letters)
            if foreign:
                swapped = phrase.swapcase()
                advice = f" Write '{swapped}'." if not set(swapped) - letters else ""
                raise ValueError(
                    f"The hot word '{given}' can't be written: the model has no token for "
                    f"{', '.join(map(repr, foreign))}.{advice}"
                )
            phrases[phrase] = float(weight)
        return phrases

    def _add(self, phrase: str, weight: float) -> None:
        node = 0
        for depth, letter in enumerate(phrase, 1):
            child = self._children[node].get(letter)
            if child is None:
                child = self._children[node][letter] = len(self._texts)
                self._children.append({})
                self._texts.append(phrase[:depth])
                self._complete.append(0.0)
                self._lent.append(-np.inf)
            node = child
            if depth < len(phrase) or self._by_words:
                self._lent[node] = max(self._lent[node], weight * depth / len(phrase))
        self._complete[node] = weight
        if self._lent[node] == -np.inf:
            self._lent[node] = 0.0

    def _suffixes(self, state: int) -> list[int]:
        """The state, and those of shorter ends of its text that begin a phrase, longest first, without the start."""
        text = self._texts[state]
        starts = [0, *(place + 1 for place, letter in enumerate(text) if letter == " " or not self._by_words)]
        found = (self._node(text[start:]) for start in starts)
        return [node for node in found if node]

    def _node(self, text: str) -> int:
        node = 0
        for letter in text:
            node = self._children[node].get(letter, 0)
            if not node:
                return 0
        return node

    def _ending(self, state: int) -> float:
        """What the longest phrase is worth that is complete if a word ends in this state."""
        return next((self._complete[node] for node in self._suffixes(state) if self._complete[node]), 0.0)

    def _after(self, state: int, letter: str) -> tuple[int, float]:
        if self._by_words and state == ASIDE:
            return (0, 0.0) if letter == " " else (ASIDE, 0.0)
        paid = self._ending(state) if letter == " " and self._by_words else 0.0
        # A phrase may begin here only where a word does.
        begins = not self._by_words or self._texts[state][-1:] in ("", " ")
        nodes = [*self._suffixes(state), *([0] if begins else [])]
        after = next((self._children[node][letter] for node in nodes if letter in self._children[node]), None)
        if self._by_words:
            return (0 if letter == " " else ASIDE, paid) if after is None else (after, paid)
        return (0, 0.0) if after is None else (after, self._ending(after))
