"""From tokens to words with times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wavconformer.decoding.greedy import Tokens


@dataclass(frozen=True)
class Word:
    """A word and when it is heard, in seconds from the recording's start."""

    text: str
    start: float
    end: float


def words(tokens: Tokens, symbols: Sequence[str | None], seconds_per_frame: float) -> tuple[Word, ...]:
    """Joins tokens to words.

    symbols: what each token id reads as; " " parts words, None leaves nothing (a sentence mark).
    seconds_per_frame: 0.02 for these models by default.
    """
    found: list[Word] = []
    letters: list[str] = []
    start = end = 0.0
    for token, first, after in zip(tokens.ids, tokens.start, tokens.end, strict=True):
        symbol = symbols[token] if token < len(symbols) else None
        if symbol is None:
            continue
        if symbol == " ":
            if letters:
                found.append(Word("".join(letters), start, end))
                letters = []
            continue
        if not letters:
            start = round(float(first * seconds_per_frame), 3)
        letters.append(symbol)
        end = round(float(after * seconds_per_frame), 3)
    if letters:
        found.append(Word("".join(letters), start, end))
    return tuple(found)
