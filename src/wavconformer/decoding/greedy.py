"""Greedy CTC decoding: the likeliest token of every frame, repeats merged, blanks dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.words import Word, words
from wavconformer.processing.collapse import collapse


@dataclass(frozen=True)
class Tokens:
    """Decoded tokens and the frames that they hold.

    ids: (L,) token ids. start, end: (L,) first frame of each and the frame after its last.
    probabilities: (L,) the posterior of each in the frame where it is highest; None where nobody gave posteriors.
    """

    ids: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    probabilities: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def greedy(frame_ids: NDArray[np.integer], blank: int, log_probs: NDArray[np.floating] | None = None) -> Tokens:
    """Collapses the likeliest token of each frame (T,): repeats merge first, then blanks go (Graves et al. 2006).

    A doubled letter survives because a blank stands between the two.

    log_probs: (T,) natural logarithm of each of these tokens' posterior in its frame.
    """
    ids = np.asarray(frame_ids, dtype=np.int64)
    runs = collapse(ids, np.array([0, len(ids)]), blank=blank)
    best = None
    if log_probs is not None:
        best = np.zeros(0, np.float32)
        if len(runs.labels):
            # Each run's first frame and the frame after it: the maxima between them, every second one, are the runs'.
            edges = np.stack([runs.starts, runs.ends], axis=1).ravel()
            padded = np.append(np.asarray(log_probs, np.float32), -np.inf)
            best = np.exp(np.maximum.reduceat(padded, edges)[::2])
    return Tokens(runs.labels, runs.starts, runs.ends, best)


@dataclass(frozen=True)
class GreedyDecoder:
    """The likeliest token of each frame, without a language model: a `Decoder`.

    symbols: what each token id reads as; " " parts words, None leaves nothing. blank: id of the CTC blank.
    seconds_per_frame: 0.02 for the released models.
    """

    symbols: Sequence[str | None]
    blank: int
    seconds_per_frame: float

    def __call__(self, log_probs: NDArray[np.float32], first_frame: int = 0) -> tuple[Word, ...]:
        """Log-probabilities (T, V) to words; times count from `first_frame` frames before the first of them."""
        ids = log_probs.argmax(-1)
        best = np.take_along_axis(log_probs, ids[:, None], axis=-1)[:, 0]
        return words(greedy(ids, self.blank, best), self.symbols, self.seconds_per_frame, first_frame)
