"""Praat's TextGrid, in its long text form: a tier of segments and a tier of words."""

from __future__ import annotations

from collections.abc import Sequence

from wavconformer.decoding.transcript import Segment, Transcript
from wavconformer.decoding.words import Word


def textgrid(transcript: Transcript) -> str:
    """A transcript as TextGrid; what lies between words is an interval without text."""
    end = max([transcript.duration, *(word.end for word in transcript.words)])
    tiers: dict[str, Sequence[Segment] | Sequence[Word]] = {"segments": transcript.segments, "words": transcript.words}
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {_number(end)}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, items) in enumerate(tiers.items(), 1):
        intervals = _intervals(items, end)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {_number(end)}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, (begin, stop, text) in enumerate(intervals, 1):
            quoted = " ".join(text.split()).replace('"', '""')
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {_number(begin)}",
                f"            xmax = {_number(stop)}",
                f'            text = "{quoted}"',
            ]
    return "\n".join(lines) + "\n"


def _intervals(items: Sequence[Segment] | Sequence[Word], end: float) -> list[tuple[float, float, str]]:
    """The items with the empty stretches between them, from 0 to `end` without a gap."""
    intervals: list[tuple[float, float, str]] = []
    reached = 0.0
    for item in items:
        if item.start > reached:
            intervals.append((reached, item.start, ""))
        intervals.append((max(item.start, reached), item.end, item.text))
        reached = item.end
    if end > reached:
        intervals.append((reached, end, ""))
    return intervals


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
