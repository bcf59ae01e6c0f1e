"""Voices that belong together: embeddings grouped into speakers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import WavConformerError

MOST = 3000
"""So many embeddings are grouped with each other, by time and memory that grow with their square; others join them."""
APART = 2.0
"""Distance of two voices that are heard at once, or one after the other in one window: no cosine is further."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Voices:
    """What was heard of local speakers, one a row.

    vectors: (N, D) embeddings of length 1. seconds: (N,) of sound that each was made of. windows: (N,) the window that
    each was heard in. ties: pairs of rows in different windows that surely are one (0.0) or two speakers (`APART`), by
    what they do while both windows last.
    """

    vectors: Vectors
    seconds: NDArray[np.float32]
    windows: NDArray[np.int64]
    ties: dict[tuple[int, int], float]


def group(
    voices: Voices,
    threshold: float,
    least: int = 1,
    most: int | None = None,
    *,
    clear: float = 0.0,
    small: float = 0.0,
) -> Vectors:
    """The speakers (S, D), as the mean directions of their voices: average-linkage clustering by cosine distance.

    threshold: cosine distance from which on groups stay apart. least, most: of speakers; they stand over the threshold.
    clear: seconds; voices of less sound make no groups, unless there are no others.
    small: seconds; groups of fewer are no speakers, unless `least` asks for them.

    Raises WavConformerError where scipy isn't installed.
    """
    rows = np.flatnonzero(voices.seconds >= clear)
    if not len(rows):
        rows = np.arange(len(voices.vectors))
    if len(rows) > MOST:
        rows = np.sort(rows[np.argsort(-voices.seconds[rows], kind="stable")[:MOST]])
    if len(rows) < 2:
        return voices.vectors[rows]
    links = _links(voices, rows)
    heights = links[:, 2]
    seconds = np.maximum(voices.seconds[rows], 1e-3)
    labels = _cut(links, len(rows) - int(np.searchsorted(heights, threshold)))
    large = _large(labels, seconds, small)
    bound = min(max(len(large), least), len(rows) if most is None else most)
    if len(large) != bound:
        labels, large = _bounded(links, seconds, bound, small, int(labels.max()) + 1)
    vectors = voices.vectors[rows]
    return _unit(np.stack([(vectors[labels == one] * seconds[labels == one, None]).sum(0) for one in large]))


def _links(voices: Voices, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The tree of merges, as scipy's `linkage` has it."""
    linkage, pdist = _scipy()
    distances = pdist(voices.vectors[rows].astype(np.float64), "cosine")
    places = {int(row): place for place, row in enumerate(rows)}
    pairs = dict(voices.ties)
    for first in range(len(rows)):
        for second in range(first + 1, len(rows)):
            if voices.windows[rows[second]] != voices.windows[rows[first]]:
                break
            pairs[int(rows[first]), int(rows[second])] = APART
    count = len(rows)
    for (one, other), distance in pairs.items():
        if one in places and other in places:
            first, second = sorted((places[one], places[other]))
            distances[first * count - first * (first + 1) // 2 + second - first - 1] = distance
    tree: NDArray[np.float64] = linkage(distances, "average")
    return tree


def _cut(links: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Labels (N,) from 0 on of so many groups: the first merges are made, the last ones not."""
    leaves = len(links) + 1
    parent = np.arange(2 * leaves - 1)
    for number, (one, other) in enumerate(links[: leaves - max(1, count), :2].astype(int)):
        parent[[one, other]] = leaves + number
    for node in range(len(parent) - 1, -1, -1):  # a parent's number is higher than its children's
        parent[node] = parent[parent[node]]
    return np.asarray(np.unique(parent[:leaves], return_inverse=True)[1])


def _large(labels: NDArray[np.int64], seconds: NDArray[np.float32], small: float) -> NDArray[np.int64]:
    """The groups with enough sound; where none has, the one with most."""
    heard = np.bincount(labels, seconds)
    large = np.flatnonzero(heard >= small)
    return large if len(large) else np.array([heard.argmax()])


def _bounded(
    links: NDArray[np.float64], seconds: NDArray[np.float32], wanted: int, small: float, start: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cut nearest to `start` groups with as many large ones as wanted; else the largest of that many groups."""
    leaves = len(links) + 1
    for count in sorted(range(1, min(leaves, start + 10 * wanted) + 1), key=lambda count: abs(count - start)):
        labels = _cut(links, count)
        large = _large(labels, seconds, small)
        if len(large) == wanted:
            return labels, large
    labels = _cut(links, min(wanted, leaves))
    return labels, np.arange(min(wanted, leaves))


def assign(voices: Voices, speakers: Vectors) -> NDArray[np.int64]:
    """Of each voice (N,) its speaker: the nearest, but those of one window are different ones while there are enough.

    Raises WavConformerError where scipy isn't installed.
    """
    from scipy.optimize import linear_sum_assignment

    near = voices.vectors @ speakers.T
    labels = near.argmax(1)
    for window in np.unique(voices.windows):
        rows = np.flatnonzero(voices.windows == window)
        if len(rows) > 1:
            chosen, columns = linear_sum_assignment(-near[rows])
            labels[rows[chosen]] = columns
    return np.asarray(labels)


def ties_between(
    active: NDArray[np.bool_],
    others: NDArray[np.bool_],
    rows: Sequence[int | None],
    other_rows: Sequence[int | None],
    least: int,
) -> dict[tuple[int, int], float]:
    """What the frames that two windows share (T, K) tell: who is the same in both, and who isn't.

    rows, other_rows: of each column the row of its voice, None where it has none. least: frames that a speaker must be
    heard in for it to tell anything.
    """
    found: dict[tuple[int, int], float] = {}
    for column, row in enumerate(rows):
        for other_column, other_row in enumerate(other_rows):
            if row is None or other_row is None:
                continue
            one, other = active[:, column], others[:, other_column]
            if min(one.sum(), other.sum()) < least:
                continue
            share = (one & other).sum() / (one | other).sum()
            if share >= 0.6:
                found[row, other_row] = 0.0
            elif share <= 0.1:
                found[row, other_row] = APART
    return found


def _unit(vectors: NDArray[np.floating]) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)


def _scipy() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The functions `linkage` and `pdist`."""
    try:
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import pdist
    except ImportError as error:
        raise WavConformerError(
            "Telling speakers apart over a long recording needs scipy: pip install 'wavconformer[diarize]'."
        ) from error
    return linkage, pdist
