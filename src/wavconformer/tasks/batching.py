"""Which recordings go through the model together, so that little of what it computes is padding."""

from __future__ import annotations

from collections.abc import Sequence

# Seconds in a batch, padding included. On a CPU short recordings gain from company, up to twofold at 1 s, and long ones
# nothing; an accelerator wants more to do.
CPU_SECONDS = 16.0
ACCELERATOR_SECONDS = 160.0
# The shortest of a batch is at least this part of the longest.
LEAST_SHARE = 0.8


def batches(lengths: Sequence[float], most: float, spare: float = 0.0) -> list[list[int]]:
    """Groups items by length: their numbers in `lengths`, longest first.

    A group's longest times its size is at most `most`, and its shortest at least `LEAST_SHARE` of the longest, or at
    most `spare` shorter than it; an item longer than `most` is alone.
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if groups:
            longest = lengths[groups[-1][0]]
            fits = longest * (len(groups[-1]) + 1) <= most
            if fits and lengths[number] >= min(LEAST_SHARE * longest, longest - spare):
                groups[-1].append(number)
                continue
        groups.append([number])
    return groups
