"""From what is heard in overlapping windows to who speaks in each frame of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
"""Speaker of frames in which a column stands for nobody."""


@dataclass(frozen=True)
class Heard:
    """What a frame head said of one window.

    first: number of its first frame in the recording. active: (T, K) who speaks, by column; whom a column stands for
    differs from window to window. chances: (T, K) how likely that is, as 0 to 255.
    """

    first: int
    active: NDArray[np.bool_]
    chances: NDArray[np.uint8]

    @property
    def stop(self) -> int:
        """The frame after its last."""
        return self.first + len(self.active)


def stitch(
    windows: Sequence[Heard], speakers: Sequence[NDArray[np.int64]], count: int, frames: int
) -> NDArray[np.bool_]:
    """Who speaks in each frame of the recording: (frames, count).

    speakers: of each window the speaker (T, K) that each column stands for, from 0 on, or `NOBODY`. In each frame there
    are as many as the windows with it have on average, rounded, and these are the likeliest by the mean over those
    windows, where that of a speaker is the likeliest of its columns (the aggregation of pyannote.audio 2.1, Bredin
    2023, section 2.3).
    Where half of the windows have one more, that one must be likelier than not.
    """
    chances = np.zeros((frames, count), np.float32)
    several = np.zeros(frames, np.float32)
    seen = np.zeros(frames, np.float32)
    for window, owners in zip(windows, speakers, strict=True):
        place = slice(window.first, window.stop)
        seen[place] += 1
        several[place] += (window.active & (owners != NOBODY)).sum(1)
        for speaker in np.unique(owners[owners != NOBODY]):
            chances[place, speaker] += (window.chances * (owners == speaker)).max(1)
    seen = np.maximum(seen, 1)
    least = np.ceil(several / seen - 0.5)[:, None]
    is_even = (several / seen - 0.5)[:, None] == least
    order = np.argsort(-chances, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(count)[None], axis=1)
    chosen: NDArray[np.bool_] = (
        (ranks < least) | (is_even & (ranks == least) & (chances >= 127.5 * seen[:, None]))
    ) & (chances > 0)
    return chosen


def smoothed(active: NDArray[np.bool_], gap: int, least: int) -> NDArray[np.bool_]:
    """(T, S) with rests of at most `gap` frames filled, and after that stretches of fewer than `least` taken away."""
    rests = _without_short(np.logical_not(active), gap + 1, inner=True)
    return _without_short(np.logical_not(rests), least, inner=False)


def _without_short(active: NDArray[np.bool_], least: int, *, inner: bool) -> NDArray[np.bool_]:
    """Stretches of fewer frames made false; `inner`: but for those at either end."""
    kept: NDArray[np.bool_] = active.copy()
    for column in range(active.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], active[:, column].astype(np.int8), [0]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start < least and not (inner and (start == 0 or end == len(active))):
                kept[start:end, column] = False
    return kept
