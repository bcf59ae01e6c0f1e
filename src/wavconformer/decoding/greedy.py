"""Greedy CTC decoding: the likeliest token of every frame, repeats merged, blanks dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.processing.collapse import collapse


@dataclass(frozen=True)
class Tokens:
    """Decoded tokens and the frames that they hold.

    ids: (L,) token ids. start, end: (L,) first frame of each and the frame after its last.
    """

    ids: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def greedy(frame_ids: NDArray[np.integer], blank: int) -> Tokens:
    """Collapses the likeliest token of each frame (T,): repeats merge first, then blanks go (Graves et al. 2006).

    A doubled letter survives because a blank stands between the two.
    """
    ids = np.asarray(frame_ids, dtype=np.int64)
    runs = collapse(ids, np.array([0, len(ids)]), blank=blank)
    return Tokens(runs.labels, runs.starts, runs.ends)
