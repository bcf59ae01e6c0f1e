"""From frame labels to what was said: the runs of equal labels, as CTC reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Runs:
    """The runs of equal labels in many rows at once, blanks left out.

    labels: the label of each run, (R,), of all rows one after the other.
    starts, ends: the frames that each run covers, from the start of its row; the end is exclusive.
    bounds: (B + 1,); row i has the runs bounds[i] to bounds[i + 1].
    """

    labels: NDArray[Any]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    bounds: NDArray[np.int64]


def collapse(labels: NDArray[Any], bounds: NDArray[np.int64], *, blank: int | None, group: bool = True) -> Runs:
    """Joins equal neighbours and drops blanks, in all rows at once.

    labels: the rows' labels one after the other, (N,).
    bounds: (B + 1,), rising from 0 to N; row i has the labels bounds[i] to bounds[i + 1].
    blank: the label to drop, None for none.
    group: whether equal neighbours are one run; otherwise each label is a run of its own.
    """
    first = np.ones(len(labels), bool)
    if group:
        np.not_equal(labels[1:], labels[:-1], out=first[1:])
        first[bounds[:-1][bounds[:-1] < len(labels)]] = True  # a row's first label continues none
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(labels))
    if blank is not None:
        kept = labels[starts] != blank
        starts, ends = starts[kept], ends[kept]
    run_bounds = np.searchsorted(starts, bounds)
    row_starts = np.repeat(bounds[:-1], np.diff(run_bounds))
    return Runs(labels[starts], starts - row_starts, ends - row_starts, run_bounds)
