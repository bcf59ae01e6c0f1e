"""Words as captions that can be read: short lines, long enough on the screen, parted at pauses.

The limits are those of the Netflix Timed Text Style Guide (General Requirements; English), which others share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from wavconformer.decoding.transcript import Transcript
from wavconformer.decoding.words import Word

LINE = 42
"""Characters in a line."""
LINES = 2
LONGEST = 7.0
"""Seconds that a caption stays at most."""
SHORTEST = 5 / 6
"""Seconds that it stays at least, where the next one leaves so much."""
SPEED = 20.0
"""Characters a second that can be read: a caption stays until they are, where the next one leaves so much."""
GAP = 2 / 24
"""Seconds between two captions: two frames of film."""
LINGER = 0.25
"""Seconds that a caption stays after its last word, whose sound CTC's frames don't cover to its end."""
_PAUSE = 0.6  # seconds; a cut between captions is free there, and dearer the shorter the pause is


@dataclass(frozen=True)
class Caption:
    """What stands on the screen from `start` to `end`, in seconds: at most two lines; and who says it, if known."""

    start: float
    end: float
    lines: tuple[str, ...]
    speaker: str | None = None


def captions(transcript: Transcript) -> list[Caption]:
    """A transcript as captions that don't overlap, in order."""
    made: list[Caption] = []
    for segment in transcript.segments:
        words = [piece for word in segment.words for piece in _pieces(word)]
        for group in _parted(words):
            lines = _lines([word.text for word in group])
            text = lines or (" ".join(word.text for word in group),)
            made.append(Caption(group[0].start, group[-1].end, text, segment.speaker))
    return [_timed(caption, following) for caption, following in zip_longest(made, made[1:])]


def _timed(caption: Caption, following: Caption | None) -> Caption:
    """Stays as long as reading takes, and leaves the screen before the following one comes."""
    reading = sum(map(len, caption.lines)) / SPEED
    end = max(caption.end + LINGER, caption.start + max(SHORTEST, reading))
    end = min(end, caption.start + LONGEST)
    if following is not None:
        free = following.start - GAP
        end = min(end, free if free > caption.start else following.start)
    return replace(caption, end=end)


def _pieces(word: Word) -> list[Word]:
    """A word in pieces that fit into a line; their times are interpolated."""
    if len(word.text) <= LINE:
        return [word]
    count = math.ceil(len(word.text) / LINE)
    size = math.ceil(len(word.text) / count)
    second = (word.end - word.start) / len(word.text)
    return [
        replace(
            word,
            text=word.text[begin : begin + size],
            start=word.start + begin * second,
            end=word.start + min(begin + size, len(word.text)) * second,
        )
        for begin in range(0, len(word.text), size)
    ]


def _parted(words: Sequence[Word]) -> list[Sequence[Word]]:
    """Groups that fit into a caption each: full ones, parted where pauses are, by dynamic programming."""
    best: list[tuple[float, int]] = [(0.0, 0)]  # the cost of the first n words, and where their last caption begins
    for end in range(1, len(words) + 1):
        pause = words[end].start - words[end - 1].end if end < len(words) else _PAUSE
        cut = 1 - min(max(pause, 0.0), _PAUSE) / _PAUSE
        choices = []
        for begin in range(end - 1, -1, -1):
            group = words[begin:end]
            fits = group[-1].end - group[0].start <= LONGEST and _lines([word.text for word in group]) is not None
            if not fits and begin < end - 1:
                break
            empty = 1 - sum(len(word.text) + 1 for word in group) / (LINES * LINE)
            choices.append((best[begin][0] + cut + empty**2, begin))
        best.append(min(choices))
    groups: list[Sequence[Word]] = []
    end = len(words)
    while end:
        begin = best[end][1]
        groups.append(words[begin:end])
        end = begin
    return groups[::-1]


def _lines(words: Sequence[str]) -> tuple[str, ...] | None:
    """The words in one line, or in two of like length; None where they don't fit."""
    text = " ".join(words)
    if len(text) <= LINE:
        return (text,)
    pairs = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=None)
