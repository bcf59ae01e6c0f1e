"""From tokens to words with times and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavconformer.decoding.greedy import Tokens


@dataclass(frozen=True)
class Word:
    """A word, when it is heard, and how sure the model is of it.

    start, end: seconds from the recording's start: where its first token's frames begin and its last one's end. CTC
        models put a token on few frames: the sound of a word may last a little longer than the word here.
    probability: the mean, over the word's tokens, of each token's posterior in the frame where that is highest. From 0
        to 1; it sorts words well and is no calibrated chance of being right. None where no posteriors were at hand.
    speaker: who says it; None where nobody asked, or nobody was heard to say it.
    """

    text: str
    start: float
    end: float
    probability: float | None = None
    speaker: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a speaker only where there is one."""
        return {name: value for name, value in vars(self).items() if name != "speaker" or value is not None}


def words(
    tokens: Tokens, symbols: Sequence[str | None], seconds_per_frame: float, first_frame: int = 0
) -> tuple[Word, ...]:
    """Joins tokens to words.

    symbols: what each token id reads as; " " parts words, None leaves nothing (a sentence mark).
    seconds_per_frame: 0.02 for the released models.
    first_frame: the recording's frame that the tokens' frames count from.
    """
    found: list[Word] = []
    letters: list[str] = []
    chances: list[float] = []
    start = end = 0.0

    def finish() -> None:
        if letters:
            probability = round(sum(chances) / len(chances), 4) if chances else None
            found.append(Word("".join(letters), start, end, probability))
            letters.clear()
            chances.clear()

    for number, (token, first, after) in enumerate(zip(tokens.ids, tokens.start, tokens.end, strict=True)):
        symbol = symbols[token] if token < len(symbols) else None
        if symbol is None:
            continue
        if symbol == " ":
            finish()
            continue
        if not letters:
            start = round(float((first_frame + first) * seconds_per_frame), 3)
        letters.append(symbol)
        if tokens.probabilities is not None:
            chances.append(float(tokens.probabilities[number]))
        end = round(float((first_frame + after) * seconds_per_frame), 3)
    finish()
    return tuple(found)
