"""The likeliest frames of tokens that are known already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.greedy import Tokens

BLOCK = 512
"""Frames whose way is held in memory at once."""


def best_path(
    log_probs: NDArray[np.floating[Any]], ids: NDArray[np.int64], blank: int, delimiter: int | None = None
) -> Tokens:
    """The tokens with the frames and posteriors that they have on their likeliest path through a CTC lattice (Viterbi).

    log_probs: (T, V). ids: (L,), without blanks.
    delimiter: the token between words; between two words, before the first and behind the last it may come as often as
        it likes, which changes no text.

    Where the likeliest path of all reads as these tokens it is that path, the one that greedy decoding takes. Raises
    ValueError where there are too few frames for the tokens.
    """
    count, frames = len(ids), len(log_probs)
    if not count:
        return Tokens(ids, ids.copy(), ids.copy(), np.zeros(0, np.float32))
    lattice = _Lattice(ids, blank, delimiter)
    # Going back needs the moves of a block of frames at a time; those of the blocks before are made again.
    firsts = range(0, frames, BLOCK)
    known = [lattice.start()]
    for first in firsts:
        scores, moves, emissions = lattice.advance(known[-1], log_probs[first : first + BLOCK])
        known.append(scores)
    state = 2 * count if known[-1][-1] >= known[-1][-2] else 2 * count - 1
    if not frames or known[-1][state + 2] == -np.inf:
        raise ValueError(f"{frames} frames are too few for {count} tokens, or rule them out.")
    states, own = np.empty(frames, np.int64), np.empty(frames + 1)
    own[-1] = -np.inf
    for block, first in reversed(list(enumerate(firsts))):
        if block < len(firsts) - 1:
            _, moves, emissions = lattice.advance(known[block], log_probs[first : first + BLOCK])
        for frame in range(len(moves) - 1, -1, -1):
            states[first + frame], own[first + frame] = state, emissions[frame, state]
            state -= int(moves[frame, state])
    held = np.flatnonzero(states % 2)
    places = states[held] // 2
    start = held[np.searchsorted(places, np.arange(count))]
    end = held[np.searchsorted(places, np.arange(count), side="right") - 1] + 1
    # From each token's first frame to the one behind its last: every second one of these maxima is a token's.
    best = np.maximum.reduceat(own, np.stack([start, end], axis=1).ravel())[::2]
    return Tokens(ids, start, end, np.exp(best).astype(np.float32))


class _Lattice:
    """The states of known tokens: one for each, and one of blanks before, between and behind them, S in all."""

    def __init__(self, ids: NDArray[np.int64], blank: int, delimiter: int | None) -> None:
        self._tokens = np.full(2 * len(ids) + 1, blank)
        self._tokens[1::2] = ids
        self._delimiter = delimiter
        self._loose = 2 * np.flatnonzero(np.concatenate(([True], ids == delimiter)))
        self._loose = np.append(self._loose, 2 * len(ids))
        self._skips = np.full(2 * len(ids) + 1, -np.inf)  # what it costs to come from two states before
        self._skips[3::2][ids[1:] != ids[:-1]] = 0.0

    def start(self) -> NDArray[np.float64]:
        """The scores of states before the first frame, with two of nothing before the first, (S + 2,)."""
        scores = np.full(len(self._tokens) + 2, -np.inf)
        scores[2] = 0.0
        return scores

    def advance(
        self, scores: NDArray[np.float64], log_probs: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.floating[Any]]]:
        """The scores after some frames, and for each of these from how many states before the best path comes, and
        what the states emit, (T, S).
        """
        emissions = log_probs[:, self._tokens]
        if self._delimiter is not None:
            emissions[:, self._loose] = np.maximum(emissions[:, self._loose], log_probs[:, [self._delimiter]])
        history = np.full((len(emissions) + 1, len(scores)), -np.inf)
        history[0] = scores
        skipping = np.empty(len(self._tokens))
        for before, after, row in zip(history, history[1:, 2:], emissions, strict=False):
            np.add(before[:-2], self._skips, out=skipping)
            np.maximum(before[2:], before[1:-1], out=after)
            np.maximum(after, skipping, out=after)
            after += row
        before = history[:-1]
        moves = np.argmax([before[:, 2:], before[:, 1:-1], before[:, :-2] + self._skips], axis=0).astype(np.int8)
        return history[-1], moves, emissions
