"""Voices that belong together: embeddings grouped into speakers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import WavConformerError

MOST = 3000
"""So many embeddings are grouped with each other, by time and memory that grow with their square; others join them."""
SHARE = 0.005
"""A group with a smaller part of all that is heard is no speaker: in hours some pieces are always unlike all others."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Voices:
    """Pieces of what local speakers said, one a row.

    vectors: (N, D) embeddings of length 1. seconds: (N,) of sound in each in which nobody else is heard. windows: (N,)
    the window that each was heard in. spans: (N, 2) its first frame in the window, and the one after its last.
    """

    vectors: Vectors
    seconds: NDArray[np.float32]
    windows: NDArray[np.int64]
    spans: NDArray[np.int64]


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
    small: seconds; groups of fewer, or of less than `SHARE` of all, are no speakers, unless `least` asks for them.

    Raises WavConformerError where scipy isn't installed.
    """
    rows = np.flatnonzero(voices.seconds >= clear)
    if not len(rows):
        rows = np.arange(len(voices.vectors))
    if len(rows) > MOST:  # from all parts of the recording
        rows = rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
    if len(rows) < 2:
        return voices.vectors[rows]
    vectors = voices.vectors[rows]
    links = _links(vectors)
    heights = links[:, 2]
    seconds = np.maximum(voices.seconds[rows], 1e-3)
    labels = _cut(links, len(rows) - int(np.searchsorted(heights, threshold)))
    small = max(small, SHARE * float(seconds.sum()))
    large = _large(labels, seconds, small)
    bound = min(max(len(large), least), len(rows) if most is None else most)
    if len(large) != bound:
        labels, large = _bounded(links, seconds, bound, small, int(labels.max()) + 1)
    return unit(np.stack([(vectors[labels == one] * seconds[labels == one, None]).sum(0) for one in large]))


def _links(vectors: Vectors) -> NDArray[np.float64]:
    """The tree of merges, as scipy's `linkage` has it."""
    try:
        from scipy.cluster.hierarchy import linkage
    except ImportError as error:
        raise WavConformerError(
            "Telling speakers apart over a long recording needs scipy: pip install 'wavconformer[diarize]'."
        ) from error
    tree: NDArray[np.float64] = linkage(vectors.astype(np.float64), "average", "cosine")
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
    """Of each voice (N,) its speaker: the nearest, but those heard at once are different ones while there are enough.

    Of those at once the ones with more sound to tell them by choose first.
    """
    near = voices.vectors @ speakers.T
    labels = near.argmax(1)
    for window in np.unique(voices.windows):
        rows = np.flatnonzero(voices.windows == window)
        chosen: list[int] = []
        for row in rows[np.argsort(-voices.seconds[rows], kind="stable")].tolist():
            start, stop = voices.spans[row]
            taken = {int(labels[one]) for one in chosen if voices.spans[one][0] < stop and start < voices.spans[one][1]}
            free = [speaker for speaker in range(len(speakers)) if speaker not in taken]
            if labels[row] in taken and free:
                labels[row] = free[int(near[row, free].argmax())]
            chosen.append(row)
    return np.asarray(labels)


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Vectors (…, D), each brought to length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)
