"""One speaker or two: a verdict on a pair of recordings, and the threshold that it goes by."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wavconformer.audio import AudioSource
from wavconformer.errors import CheckpointError, DataError
from wavconformer.scoring.calibration import (
    CALIBRATION_FILE,
    TOP,
    Calibration,
    Cohort,
    actual_cost,
    fit_calibration,
    llr_cost,
)
from wavconformer.scoring.verification import Trial, VerificationScores, read_trials, score_verification
from wavconformer.tasks.embedding import Embedder, Vectors, embedder_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Verification:
    """Whether one speaker speaks in two recordings.

    score: the cosine of their vectors, normalised where the calibration has a cohort. threshold: from which on it is
    one. probability: that it is one speaker, given the calibration's prior; None where no calibration is known.
    """

    score: float
    threshold: float
    is_same: bool
    probability: float | None = None


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration and how good the scores are that it was fitted to.

    scores: equal error rate and least costs. llr_cost: Cllr, in bits. actual_cost: at the calibration's threshold,
    normalised as the least costs are. recordings: that were embedded.
    """

    calibration: Calibration
    scores: VerificationScores
    llr_cost: float
    actual_cost: float
    recordings: int


def verify(
    a: AudioSource,
    b: AudioSource,
    *,
    model: Embedder | str | os.PathLike[str] | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
) -> Verification:
    """Whether one speaker speaks in both recordings.

    a, b: paths, bytes, file objects or mono arrays (S,), as `embed` takes them.
    model: what `Embedder.load` gave, or a name for it; the speaker model that ships with the package by default.
    calibration: what `calibrate` gave, or its file; by default that of the model's folder.
    threshold: score from which on it is one speaker, in place of the calibration's.

    Raises AudioError for recordings that can't be used, CheckpointError where there is neither calibration nor
    threshold, DataError for a calibration of another model, and ValueError for a threshold that is no number.
    """
    if threshold is not None:
        finite_threshold(threshold)
    embedder = embedder_of(model, device)
    known = calibration_for(embedder, calibration)
    if known is None and threshold is None:
        raise uncalibrated(embedder)
    first, second = embedder.many([a, b], sampling_rate=sampling_rate)
    score = pair_score(first, second, known)
    limit = known.threshold if threshold is None and known is not None else float(threshold or 0.0)
    return Verification(score, limit, score >= limit, None if known is None else known.probability(score))


def pair_score(first: Vectors, second: Vectors, calibration: Calibration | None) -> float:
    """The score of two vectors (D,)."""
    if calibration is None:
        return float(first @ second)
    return float(calibration.scores(first[None], second[None])[0])


def calibration_for(
    embedder: Embedder, calibration: Calibration | str | os.PathLike[str] | None = None
) -> Calibration | None:
    """The calibration that is given, or that of the model's folder; None where there is neither.

    Raises DataError for one of another model, CheckpointError for a file that is none.
    """
    if calibration is not None and not isinstance(calibration, Calibration):
        if not Path(calibration).is_file():
            raise DataError(f"There is no calibration at '{calibration}': `wavconformer calibrate` writes one.")
        calibration = Calibration.read(calibration)
    known = embedder.calibration if calibration is None else calibration
    if known is not None and known.model != embedder.name:
        raise DataError(
            f"The calibration is of the speaker model {known.model}, but the one in use, '{embedder.place}', is "
            f"{embedder.name}: its scores mean something else. Run `wavconformer calibrate` with this model."
        )
    return known


def uncalibrated(embedder: Embedder) -> CheckpointError:
    """What to say where nobody knows which score is high."""
    return CheckpointError(
        f"'{embedder.place}' has no {CALIBRATION_FILE}, so nobody knows which score means one speaker: run "
        "`wavconformer calibrate TRIALS --model …`, or give a threshold."
    )


def finite_threshold(threshold: float) -> float:
    """A threshold as it is; ValueError for NaN and infinity, which no score could be held against."""
    if not math.isfinite(threshold):
        raise ValueError(f"The threshold is {threshold}, but must be a finite number, as a score is.")
    return threshold


def calibrate(
    trials: str | os.PathLike[str] | Sequence[Trial],
    *,
    model: Embedder | str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    p_target: float = 0.5,
    c_miss: float = 1.0,
    c_false_accept: float = 1.0,
    cohort: Sequence[AudioSource] = (),
    top: int = TOP,
    device: torch.device | str | None = None,
    batch_seconds: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CalibrationReport:
    """What a model's scores mean, learned from trials whose truth is known.

    trials: a list as `wavconformer.scoring.verification.read_trials` reads it, or trials. Their names are paths.
    folder: that the paths are in; by default the list's own.
    p_target, c_miss, c_false_accept: the prior probability of one speaker, and the costs of refusing one and of taking
        two for one, as they will be where the model is used; the threshold follows from them (Bayes).
    cohort: recordings of many other speakers, one of each is enough, for AS-norm; top: of them, how many count at a
        time. It helps where recordings differ in their conditions.
    progress: is told how many recordings are embedded, and of how many.

    Raises DataError for trials of one kind, or a list that can't be read; AudioError for recordings that can't be used.
    """
    if isinstance(trials, (str, os.PathLike)):
        root = Path(trials).parent if folder is None else Path(folder)
        trials = read_trials(Path(trials))
    else:
        root = Path() if folder is None else Path(folder)
    if not trials:
        raise DataError("There are no trials to calibrate with.")
    embedder = embedder_of(model, device)
    Calibration(embedder.name, 1.0, 0.0, p_target, c_miss, c_false_accept)  # refuses bad costs before all is embedded
    names = list(dict.fromkeys(name for trial in trials for name in (trial.enrolment, trial.test)))
    total = len(names) + len(cohort)
    vectors = []
    for vector in embedder.each([*(root / name for name in names), *cohort], batch_seconds=batch_seconds):
        vectors.append(vector)
        progress(len(vectors), total)
    made = np.stack(vectors)
    others = Cohort(made[len(names) :], top) if len(cohort) else None
    place = {name: number for number, name in enumerate(names)}
    enrolments = made[[place[trial.enrolment] for trial in trials]]
    tests = made[[place[trial.test] for trial in trials]]
    targets = np.array([trial.target for trial in trials])
    raw = Calibration(embedder.name, 1.0, 0.0, p_target, c_miss, c_false_accept, cohort=others)
    scores = raw.scores(enrolments, tests)
    fitted = fit_calibration(
        scores,
        targets,
        model=embedder.name,
        p_target=p_target,
        c_miss=c_miss,
        c_false_accept=c_false_accept,
        cohort=others,
    )
    return CalibrationReport(
        fitted,
        score_verification(scores, targets, p_targets=(p_target,), c_miss=c_miss, c_false_accept=c_false_accept),
        llr_cost(fitted.llr(scores), targets),
        actual_cost(scores, targets, fitted),
        total,
    )
