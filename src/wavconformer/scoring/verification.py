"""One speaker or two: error rates of trials over every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavconformer.errors import DataError

P_TARGETS = (0.01, 0.05)
"""The prior probabilities of a target that NIST's speaker recognition evaluations (2016 and later) average over."""

_LABELS = {"1": True, "0": False, "target": True, "nontarget": False, "imposter": False, "impostor": False}


@dataclass(frozen=True)
class Trial:
    """Two recordings, by name, and whether one speaker speaks in both."""

    enrolment: str
    test: str
    target: bool


@dataclass(frozen=True)
class Curve:
    """What each threshold does, from accepting all to accepting none; a trial is accepted at score ≥ threshold.

    thresholds: (K,) the distinct scores, rising, and infinity. false_accepts: (K,) share of nontargets accepted,
    falling from 1 to 0. misses: (K,) share of targets refused, rising from 0 to 1. Equal scores pass or fail as one.
    """

    thresholds: NDArray[np.float64]
    false_accepts: NDArray[np.float64]
    misses: NDArray[np.float64]


@dataclass(frozen=True)
class Cost:
    """The least detection cost for a prior and two costs, over that of the better of accepting all and none.

    threshold: where it is reached; infinity means accepting none.
    """

    value: float
    threshold: float
    p_target: float
    c_miss: float
    c_false_accept: float


@dataclass(frozen=True)
class VerificationScores:
    """eer: the equal error rate, reached at eer_threshold. costs: the least ones. curve: all thresholds (DET)."""

    eer: float
    eer_threshold: float
    costs: tuple[Cost, ...]
    curve: Curve
    targets: int
    nontargets: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, without the curve."""
        return {
            "eer": self.eer,
            "eer_threshold": self.eer_threshold,
            "min_dcf": [
                {**vars(cost), "threshold": cost.threshold if np.isfinite(cost.threshold) else None}
                for cost in self.costs
            ],
            "targets": self.targets,
            "nontargets": self.nontargets,
        }


def det_curve(scores: ArrayLike, targets: ArrayLike) -> Curve:
    """Error rates over all thresholds.

    scores: (N,) higher for more alike. targets: (N,) whether the speakers are one.

    Raises DataError where scores are no numbers or there are no targets or no nontargets.
    """
    values, is_target = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if values.shape != is_target.shape or values.ndim != 1:
        raise ValueError(f"Scores and targets are two rows of one length, not {values.shape} and {is_target.shape}.")
    if np.isnan(values).any():
        raise DataError(f"The score of trial {int(np.isnan(values).argmax())} is not a number.")
    require_both_kinds(is_target)
    thresholds, position = np.unique(values, return_inverse=True)
    size = len(thresholds)
    target_counts = np.bincount(position[is_target], minlength=size)
    other_counts = np.bincount(position[~is_target], minlength=size)
    below = np.concatenate([[0], np.cumsum(target_counts)])
    others_below = np.concatenate([[0], np.cumsum(other_counts)])
    return Curve(np.append(thresholds, np.inf), 1 - others_below / others_below[-1], below / below[-1])


def require_both_kinds(targets: ArrayLike) -> None:
    """Raises DataError where trials are not of targets and nontargets both."""
    is_target = np.asarray(targets, dtype=bool)
    if is_target.all() or not is_target.any():
        raise DataError(
            f"{is_target.size} trials, {int(is_target.sum())} of targets: there must be some of both kinds."
        )


def equal_error_rate(curve: Curve) -> tuple[float, float]:
    """The rate at which false accepts and misses are equally many, and its threshold.

    Between two thresholds both rates are joined by a straight line, as usual; where all scores are equal it is 1/2.
    """
    difference = curve.misses - curve.false_accepts  # rises from -1 to 1
    after = int(np.argmax(difference >= 0))
    before = after - 1
    share = -difference[before] / (difference[after] - difference[before])
    rate = curve.misses[before] + share * (curve.misses[after] - curve.misses[before])
    low, high = curve.thresholds[before], curve.thresholds[after]
    # Scores ≥ threshold are accepted: within (low, high] nothing changes.
    threshold = low + share * (high - low) if np.isfinite(high) else low
    return float(rate), float(threshold)


def least_cost(curve: Curve, p_target: float, c_miss: float = 1.0, c_false_accept: float = 1.0) -> Cost:
    """The least normalised detection cost over all thresholds (NIST's minDCF).

    p_target: the prior probability that one speaker speaks in both. Raises ValueError outside (0, 1).
    """
    if not (0 < p_target < 1 and c_miss > 0 and c_false_accept > 0):
        raise ValueError(f"p_target {p_target} lies between 0 and 1, costs {c_miss} and {c_false_accept} above 0.")
    costs = c_miss * p_target * curve.misses + c_false_accept * (1 - p_target) * curve.false_accepts
    best = int(costs.argmin())
    trivial = min(c_miss * p_target, c_false_accept * (1 - p_target))
    return Cost(float(costs[best] / trivial), float(curve.thresholds[best]), p_target, c_miss, c_false_accept)


def score_verification(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    p_targets: Sequence[float] = P_TARGETS,
    c_miss: float = 1.0,
    c_false_accept: float = 1.0,
) -> VerificationScores:
    """Equal error rate and least costs of trials; arguments and errors as in `det_curve` and `least_cost`."""
    curve = det_curve(scores, targets)
    eer, threshold = equal_error_rate(curve)
    costs = tuple(least_cost(curve, prior, c_miss, c_false_accept) for prior in p_targets)
    count = int(np.asarray(targets, dtype=bool).sum())
    return VerificationScores(eer, threshold, costs, curve, count, len(np.asarray(targets)) - count)


def read_trials(path: str | Path) -> list[Trial]:
    """The trials of a list: lines of "1 a b" or "0 a b" (VoxCeleb), or of "a b target" or "a b nontarget".

    Raises DataError, with the line, for anything else.
    """
    path = Path(path)
    trials = []
    first_says = None
    for number, fields in _lines(path, 3, "'1 a b', '0 a b', 'a b target' or 'a b nontarget'"):
        if first_says is None:
            first_says = fields[0] in ("0", "1") and fields[2] not in _LABELS
        label, names = (fields[0], fields[1:]) if first_says else (fields[2], fields[:2])
        if label not in _LABELS:
            raise DataError(f"'{path}', line {number}: '{label}' is neither target (1) nor nontarget (0).")
        trials.append(Trial(names[0], names[1], _LABELS[label]))
    if not trials:
        raise DataError(f"'{path}' holds no trials.")
    return trials


def read_scores(path: str | Path) -> dict[tuple[str, str], float]:
    """The scores of trials: lines of "a b score". Raises DataError, with the line, for anything else."""
    scores = {}
    for number, (enrolment, test, score) in _lines(Path(path), 3, "'a b score'"):
        try:
            scores[enrolment, test] = float(score)
        except ValueError:
            raise DataError(f"'{path}', line {number}: the score '{score}' is not a number.") from None
    return scores


def _lines(path: Path, fields: int, form: str) -> list[tuple[int, list[str]]]:
    found = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not a text file.") from error
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if parts and len(parts) != fields:
            raise DataError(f"'{path}', line {number}: '{line.strip()}' is not {form}.")
        if parts:
            found.append((number, parts))
    return found
