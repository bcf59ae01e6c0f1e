"""From scores to log-likelihood ratios and thresholds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from wavconformer.errors import CheckpointError, DataError
from wavconformer.scoring.calibration import Calibration, Cohort, actual_cost, fit_calibration, llr_cost


def gaussian_trials(random, count=20_000):
    """Scores whose true log-likelihood ratio is known: N(0.6, 0.1) against N(0.2, 0.1), so 40 · score - 16."""
    scores = np.concatenate([random.normal(0.6, 0.1, count), random.normal(0.2, 0.1, 2 * count)])
    return scores, np.arange(len(scores)) < count


def test_the_ratios_of_gaussian_scores_are_found(random):
    scores, targets = gaussian_trials(random)
    known = fit_calibration(scores, targets, model="m")
    assert known.scale == pytest.approx(40, rel=0.05)
    assert known.threshold == pytest.approx(0.4, abs=0.005)
    assert (known.targets, known.nontargets) == (20_000, 40_000)
    assert known.probability(0.4) == pytest.approx(0.5, abs=0.05)
    assert known.probability(-1e6) == 0.0 and known.probability(1e6) == 1.0


@pytest.mark.parametrize("p_target", [0.5, 0.05])
def test_the_slope_is_that_of_logistic_regression(random, p_target):
    """Weighted by the prior, as scikit-learn's, which has no ridge here, finds it."""
    sklearn = pytest.importorskip("sklearn.linear_model")
    scores, targets = gaussian_trials(random, 2_000)
    known = fit_calibration(scores, targets, model="m", p_target=p_target)
    weights = np.where(targets, p_target / targets.sum(), (1 - p_target) / (~targets).sum()) * len(scores)
    oracle = sklearn.LogisticRegression(C=1e9, tol=1e-10).fit(scores[:, None], targets, weights)
    logit = math.log(p_target / (1 - p_target))
    assert known.scale == pytest.approx(float(oracle.coef_[0, 0]), rel=0.05)
    assert known.threshold == pytest.approx(-float(oracle.intercept_[0]) / float(oracle.coef_[0, 0]), abs=0.01)
    assert known.least_llr == pytest.approx(-logit)


def test_prior_and_costs_move_the_threshold(random):
    known = fit_calibration(*gaussian_trials(random), model="m")
    assert known.at(p_target=0.01).threshold > known.threshold > known.at(c_miss=10.0).threshold
    assert known.at(c_fa=9.0).least_llr == pytest.approx(math.log(9))
    assert known.at() == known


def test_trials_without_an_error_still_have_a_finite_slope():
    known = fit_calibration([0.9, 0.8, 0.1, 0.0], [True, True, False, False], model="m")
    assert 0.3 < known.threshold < 0.6
    assert math.isfinite(known.scale)


@pytest.mark.parametrize(
    ("scores", "targets", "reason"),
    [
        ([0.1, 0.9], [True, False], "wrong way round"),
        ([0.5, 0.5], [True, False], "can't tell speakers"),
        ([0.1, 0.9], [True, True], "both kinds"),
        ([0.1, math.inf], [True, False], "trial 1 is not a number"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(scores, targets, reason):
    with pytest.raises(DataError, match=reason):
        fit_calibration(scores, targets, model="m")
    with pytest.raises(ValueError, match="two rows"):
        fit_calibration([0.1], [True, False], model="m")


def test_costs_of_ratios():
    assert llr_cost([0.0, 0.0], [True, False]) == pytest.approx(1.0)
    assert llr_cost([50.0, -50.0], [True, False]) == pytest.approx(0.0, abs=1e-9)
    assert llr_cost([-3.0, 3.0], [True, False]) > 4
    known = Calibration("m", 1.0, 0.0)
    assert actual_cost([1, -1, 1, -1], [True, True, False, False], known) == pytest.approx(1.0)
    assert actual_cost([1, 1, -1, -1], [True, True, False, False], known) == 0.0
    assert actual_cost([-9, -9, -1, -1], [True, True, False, False], known.at(p_target=0.1)) == pytest.approx(1.0)


def test_a_prior_outside_its_range_is_refused():
    for arguments in ({"p_target": 1.0}, {"c_miss": 0.0}):
        with pytest.raises(ValueError, match="must lie between"):
            Calibration("m", 1.0, 0.0, **arguments)


# --- AS-norm


def rows(random, count, size=8):
    made = random.standard_normal((count, size)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_scores_are_normalised_by_the_nearest_of_the_cohort(random):
    cohort, first, second = rows(random, 30), rows(random, 4), rows(random, 4)
    known = Calibration("m", 1.0, 0.0, cohort=Cohort(cohort, 5))
    found = known.scores(first, second)
    for number in range(4):
        score = float(first[number] @ second[number])
        halves = []
        for side in (first[number], second[number]):
            nearest = sorted((float(other @ side) for other in cohort), reverse=True)[:5]
            halves.append((score - np.mean(nearest)) / np.std(nearest))
        assert found[number] == pytest.approx(np.mean(halves), rel=1e-4)


def test_normalisation_takes_away_a_shift_of_conditions(random):
    """Recordings that are like everything else, as all through one telephone are, gain nothing by it."""
    common = rows(random, 1)[0]
    plain, shifted = rows(random, 200), rows(random, 200) + 2 * common
    shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
    cohort = Cohort(np.concatenate([plain[100:], shifted[100:]]), 50)
    calibration = Calibration("m", 1.0, 0.0, cohort=cohort)
    plain_scores = calibration.scores(plain[:50], plain[50:100])
    shifted_scores = calibration.scores(shifted[:50], shifted[50:100])
    raw = np.einsum("nd,nd->n", shifted[:50], shifted[50:100]) - np.einsum("nd,nd->n", plain[:50], plain[50:100])
    assert raw.mean() > 0.5
    assert abs(shifted_scores.mean() - plain_scores.mean()) < raw.mean() * plain_scores.std()


def test_a_cohort_needs_some(random):
    with pytest.raises(DataError, match="at least two"):
        Cohort(rows(random, 1))
    with pytest.raises(ValueError, match="at least 2"):
        Cohort(rows(random, 5), top=1)


# --- files


def test_a_calibration_is_read_as_it_was_written(random, tmp_path):
    path = tmp_path / "calibration.json"
    known = fit_calibration(*gaussian_trials(random, 100), model="m", p_target=0.1, cohort=Cohort(rows(random, 9), 4))
    known.save(path)
    read = Calibration.read(path)
    assert json.loads(path.read_text())["threshold"] == pytest.approx(read.threshold)
    assert (read.model, read.scale, read.offset, read.targets) == (known.model, known.scale, known.offset, 100)
    np.testing.assert_allclose(read.cohort.vectors, known.cohort.vectors, atol=1e-3)
    assert read.cohort.top == 4
    plain = known.at()
    Calibration(plain.model, plain.scale, plain.offset).save(path)
    assert Calibration.read(path).cohort is None


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", '{"model": "m"}', '{"cohort": {"float16": "?", "shape": [2, 2], "top": 2}}']
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    whole = {"model": "m", "scale": 1.0, "offset": 0.0, "p_target": 0.5, "c_miss": 1.0, "c_false_accept": 1.0}
    if "cohort" in text:
        text = json.dumps({**whole, "targets": 1, "nontargets": 1, **json.loads(text)})
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"calibration\.json"):
        Calibration.read(path)
