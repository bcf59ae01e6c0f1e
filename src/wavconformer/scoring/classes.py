"""Right or wrong: accuracy, the confusion matrix, precision and recall of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError
from wavconformer.scoring.intervals import Interval, wilson


@dataclass(frozen=True)
class ClassScore:
    """One class. precision: of what was called so, the share that is; recall: of what is so, the share found.

    precision is None where nothing was called so, recall where nothing is so, f1 where both are lacking.
    """

    name: str
    count: int
    called: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ClassScores:
    """accuracy with Wilson's interval. confusion: (C, C) counts, rows what is, columns what it was called."""

    accuracy: float
    interval: Interval | None
    count: int
    names: tuple[str, ...]
    confusion: NDArray[np.int64]
    classes: tuple[ClassScore, ...]

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that occur: a guesser of the commonest class gains nothing."""
        return float(np.mean([one.recall for one in self.classes if one.recall is not None]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "accuracy": self.accuracy,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "balanced_accuracy": self.balanced_accuracy,
            "utterances": self.count,
            "names": list(self.names),
            "confusion": self.confusion.tolist(),
            "classes": [vars(one) for one in self.classes],
        }


def score_classes(
    references: Sequence[str], hypotheses: Sequence[str], names: Sequence[str] | None = None
) -> ClassScores:
    """Accuracy of hypotheses (N,) against references (N,).

    names: the classes in the order to show them; sorted as they occur by default.

    Raises ValueError where the numbers differ, DataError where there is nothing to score or a class isn't named.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references go with as many hypotheses, not {len(hypotheses)}.")
    if not references:
        raise DataError("There are no utterances to score.")
    order = tuple(sorted({*references, *hypotheses}) if names is None else names)
    index = {name: number for number, name in enumerate(order)}
    unknown = sorted({*references, *hypotheses} - index.keys())
    if unknown:
        raise DataError(f"'{unknown[0]}' is none of the classes {', '.join(order)}.")
    size = len(order)
    cells = np.array([index[r] * size + index[h] for r, h in zip(references, hypotheses, strict=True)])
    confusion = np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)
    hits, counts, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    classes = []
    for number, name in enumerate(order):
        hit, count, call = int(hits[number]), int(counts[number]), int(called[number])
        classes.append(
            ClassScore(
                name,
                count,
                call,
                precision=hit / call if call else None,
                recall=hit / count if count else None,
                f1=2 * hit / (count + call) if count + call else None,
            )
        )
    right, total = int(hits.sum()), len(references)
    return ClassScores(right / total, wilson(right, total), total, order, confusion, tuple(classes))
