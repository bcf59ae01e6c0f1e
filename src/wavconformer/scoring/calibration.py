"""From scores of trials to a decision: normalised scores, log-likelihood ratios, the threshold of a prior and costs."""

from __future__ import annotations

import base64
import binascii
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavconformer.errors import CheckpointError, DataError
from wavconformer.files import read_json, write_json
from wavconformer.scoring.verification import require_both_kinds

CALIBRATION_FILE = "calibration.json"
"""Of a model's folder, beside its weights."""

TOP = 100
"""Of a cohort, how many of those most like a recording its scores are normalised by."""

_STEPS = 100  # of Newton's method, which takes about ten
# Of the slope's square in the loss, where scores have deviation one: trials that can be told apart without an error
# would let the slope grow without end.
_RIDGE = 1e-6


@dataclass(frozen=True)
class Cohort:
    """Vectors (C, D) of length one of other speakers, by whose scores others are normalised; `top` of them at a time.

    Adaptive symmetric normalisation, AS-norm: each side's mean and deviation are those of its highest scores against
    the cohort (P. Matějka et al. 2017, "Analysis of Score Normalization in Multilingual Speaker Recognition", s. 2).
    """

    vectors: NDArray[np.float32]
    top: int = TOP

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) < 2:
            raise DataError(f"A cohort has at least two vectors, not an array of the shape {self.vectors.shape}.")
        if self.top < 2:
            raise ValueError(f"top is {self.top}, but a deviation needs at least 2.")

    def statistics(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation (N,) of the highest scores of vectors (N, D) against the cohort."""
        scores = np.asarray(vectors, np.float32) @ self.vectors.T
        highest = np.sort(scores.astype(np.float64), axis=1)[:, -self.top :]
        return highest.mean(1), np.maximum(highest.std(1), 1e-6)

    def normalised(
        self, scores: ArrayLike, enrolments: NDArray[np.float32], tests: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Scores (N,) of enrolments (N, D) and tests (N, D), in deviations above what others reach with either side."""
        means, deviations = zip(self.statistics(enrolments), self.statistics(tests), strict=True)
        values = np.asarray(scores, np.float64)
        result: NDArray[np.float64] = ((values - means[0]) / deviations[0] + (values - means[1]) / deviations[1]) / 2
        return result


@dataclass(frozen=True)
class Calibration:
    """What a score means: its log-likelihood ratio (natural) is scale · score + offset.

    model: identity of the speaker model whose scores these are. p_target, c_miss, c_false_accept: the prior
    probability of one speaker and the costs of both errors, which the threshold follows from. targets, nontargets:
    trials that it was fitted to. target_median: the score that half of these targets reach. cohort: by which scores are
    normalised before, or None.
    """

    model: str
    scale: float
    offset: float
    p_target: float = 0.5
    c_miss: float = 1.0
    c_false_accept: float = 1.0
    targets: int = 0
    nontargets: int = 0
    target_median: float | None = None
    cohort: Cohort | None = None

    def __post_init__(self) -> None:
        if not (0 < self.p_target < 1 and 0 < self.c_miss < math.inf and 0 < self.c_false_accept < math.inf):
            raise ValueError(
                f"p_target {self.p_target} must lie between 0 and 1, the costs {self.c_miss} and "
                f"{self.c_false_accept} above 0, and be finite."
            )
        if not (math.isfinite(self.offset) and 0 < self.scale < math.inf):
            raise DataError(
                f"The calibration's scale is {self.scale:.4g}: higher scores don't mean that it is rather one speaker. "
                "The model can't tell the speakers of these trials apart, or their labels are the wrong way round."
            )

    @property
    def threshold(self) -> float:
        """The score from which on accepting costs less than refusing."""
        return (self.least_llr - self.offset) / self.scale

    @property
    def least_llr(self) -> float:
        """The log-likelihood ratio of the threshold, by the prior and the costs alone (Bayes)."""
        return math.log(self.c_false_accept * (1 - self.p_target) / (self.c_miss * self.p_target))

    def threshold_among(self, voices: int) -> float:
        """The score from which on it is one of so many voices, each of which is a chance to be mistaken.

        The prior is parted among them. But scores end at 1 where likelihood ratios need not: the threshold is never
        raised beyond what half of the targets reach.
        """
        limit = self.at(p_target=self.p_target / max(1, voices)).threshold
        return limit if self.target_median is None else min(limit, max(self.threshold, self.target_median))

    def llr(self, score: ArrayLike) -> NDArray[np.float64]:
        """Log-likelihood ratios of scores: above 0 for rather one speaker, below for rather two."""
        result: NDArray[np.float64] = self.scale * np.asarray(score, np.float64) + self.offset
        return result

    def probability(self, score: float) -> float:
        """That one speaker speaks in both recordings, given the score and the prior."""
        odds = float(self.llr(score)) + math.log(self.p_target / (1 - self.p_target))
        return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0

    def scores(self, enrolments: NDArray[np.float32], tests: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cosines (N,) of vectors (N, D) of length one, pair by pair, normalised where there is a cohort."""
        cosines = np.einsum("nd,nd->n", enrolments, tests, dtype=np.float64)
        return cosines if self.cohort is None else self.cohort.normalised(cosines, enrolments, tests)

    def at(self, p_target: float | None = None, c_miss: float | None = None, c_fa: float | None = None) -> Calibration:
        """The same log-likelihood ratios with the threshold of another prior or other costs."""
        given = {"p_target": p_target, "c_miss": c_miss, "c_false_accept": c_fa}
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it as JSON, whole or not at all."""
        content: dict[str, Any] = {**asdict(self), "threshold": self.threshold, "format": 1}
        if self.cohort is not None:
            data = self.cohort.vectors.astype("<f2").tobytes()
            shape, top = self.cohort.vectors.shape, self.cohort.top
            content["cohort"] = {"shape": shape, "top": top, "float16": base64.b64encode(data).decode()}
        write_json(Path(path), content)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Calibration:
        """Reads what `save` wrote; CheckpointError for anything else."""
        content = read_json(Path(path))
        try:
            fields = {name: content[name] for name in cls.__dataclass_fields__}
            if (cohort := fields["cohort"]) is not None:
                data = np.frombuffer(base64.b64decode(cohort["float16"], validate=True), "<f2")
                fields["cohort"] = Cohort(data.astype(np.float32).reshape(cohort["shape"]), int(cohort["top"]))
            numbers = {
                name: float(fields[name]) for name in ("scale", "offset", "p_target", "c_miss", "c_false_accept")
            }
            return cls(**{**fields, **numbers, "model": str(fields["model"])})
        except (KeyError, TypeError, ValueError, DataError, binascii.Error) as error:
            raise CheckpointError(
                f"'{path}' is no calibration as `wavconformer calibrate` writes it: {error}."
            ) from error


def fit_calibration(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    model: str,
    p_target: float = 0.5,
    c_miss: float = 1.0,
    c_false_accept: float = 1.0,
    cohort: Cohort | None = None,
) -> Calibration:
    """The calibration by logistic regression whose log-likelihood ratios cost least at that prior and costs.

    scores: (N,) of trials, normalised by `cohort` if there is one. targets: (N,) whether the speakers are one.

    Targets weigh together as much as the effective prior says, nontargets the rest, however many there are of either
    (N. Brümmer and J. du Preez 2006, "Application-independent evaluation of speaker detection", sections 6 and 7).

    Raises DataError where there are no targets or no nontargets, where scores are no numbers, and where higher scores
    don't mean one speaker.
    """
    values, is_target = np.asarray(scores, np.float64), np.asarray(targets, bool)
    if values.shape != is_target.shape or values.ndim != 1:
        raise ValueError(f"Scores and targets are two rows of one length, not {values.shape} and {is_target.shape}.")
    if not np.isfinite(values).all():
        raise DataError(f"The score of trial {int((~np.isfinite(values)).argmax())} is not a number.")
    require_both_kinds(is_target)
    if values.min() == values.max():
        raise DataError(f"All {len(values)} trials score {values[0]:.4g}: the model can't tell speakers apart.")
    known = Calibration(model, 1.0, 0.0, p_target, c_miss, c_false_accept)
    prior = 1 / (1 + math.exp(known.least_llr))
    centre, deviation = float(values.mean()), float(values.std())
    design = np.stack([(values - centre) / deviation, np.ones_like(values)])
    weights = np.where(is_target, prior / is_target.sum(), (1 - prior) / (~is_target).sum())
    ridge = np.diag([_RIDGE, 0.0])
    solution = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        odds = solution @ design - known.least_llr
        chance = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
        gradient = design @ (weights * (chance - is_target)) + ridge @ solution
        hessian = (design * (weights * chance * (1 - chance))) @ design.T + ridge + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 5.0 / max(1e-300, float(np.abs(step).max())))  # far out the curvature says little
        solution = solution - step
        if np.abs(step).max() < 1e-10:
            break
    scale = float(solution[0]) / deviation
    return replace(
        known,
        scale=scale,
        offset=float(solution[1]) - scale * centre,
        targets=int(is_target.sum()),
        nontargets=int((~is_target).sum()),
        target_median=float(np.median(values[is_target])),
        cohort=cohort,
    )


def llr_cost(llrs: ArrayLike, targets: ArrayLike) -> float:
    """Cllr in bits: 0 for perfect log-likelihood ratios, 1 for such that say nothing, more for misleading ones.

    Brümmer and du Preez 2006, equation 11. llrs: (N,) natural logarithms. targets: (N,).
    """
    values, is_target = np.asarray(llrs, np.float64), np.asarray(targets, bool)
    require_both_kinds(is_target)
    miss = np.logaddexp(0, -values[is_target]).mean()
    false_accept = np.logaddexp(0, values[~is_target]).mean()
    return float((miss + false_accept) / (2 * math.log(2)))


def actual_cost(scores: ArrayLike, targets: ArrayLike, calibration: Calibration) -> float:
    """The detection cost at the calibration's threshold, over that of the better of accepting all and none."""
    values, is_target = np.asarray(scores, np.float64), np.asarray(targets, bool)
    require_both_kinds(is_target)
    accepted = values >= calibration.threshold
    miss_cost = calibration.c_miss * calibration.p_target
    false_cost = calibration.c_false_accept * (1 - calibration.p_target)
    cost = miss_cost * (~accepted[is_target]).mean() + false_cost * accepted[~is_target].mean()
    return float(cost / min(miss_cost, false_cost))
