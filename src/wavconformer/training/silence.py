"""Where training audio is silent: frames in which CTC may name no token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 0.01  # seconds that loudness is measured over
SHORTEST = 20  # blocks; shorter silences lie within words, before a plosive
MARGIN = 3  # blocks beside sound that don't count as silent: speech begins and ends faintly


def silent_frames(
    samples: NDArray[np.float32], rate: int, below_db: float, *, hop: int, field: int
) -> NDArray[np.bool_]:
    """Frames (T,) that hear nothing but silence, of T = (S - field) // hop + 1.

    samples: (S,). below_db: how far below the loudest 10 ms silence lies. hop, field: samples from frame to frame, and
        that one frame hears.
    """
    size = round(BLOCK * rate)
    blocks = np.append(samples, np.zeros(-len(samples) % size, np.float32)).reshape(-1, size)
    power = np.square(blocks).mean(axis=1)
    quiet = power <= power.max() * 10 ** (-below_db / 10)
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    silent = np.zeros(len(quiet), np.bool_)
    for first, last in edges:
        if last - first >= SHORTEST:
            silent[first + (MARGIN if first else 0) : last - (MARGIN if last < len(quiet) else 0)] = True
    sounding = np.concatenate([[0], np.cumsum(~silent)])
    starts = np.arange((len(samples) - field) // hop + 1) * hop
    frames: NDArray[np.bool_] = sounding[(starts + field - 1) // size + 1] == sounding[starts // size]
    return frames
