from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from wavconformer import DataError
from wavconformer.scoring.verification import (
    Trial,
    det_curve,
    equal_error_rate,
    least_cost,
    read_scores,
    read_trials,
    score_verification,
)


def brute_force(scores, targets):
    """False accept and miss rates at every threshold, one trial after another."""
    rates = []
    for threshold in [*sorted(set(scores)), np.inf]:
        accepted = [score >= threshold for score in scores]
        false = sum(a and not t for a, t in zip(accepted, targets, strict=True)) / (len(targets) - sum(targets))
        missed = sum(t and not a for a, t in zip(accepted, targets, strict=True)) / sum(targets)
        rates.append((false, missed))
    return rates


trial_lists = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=25).filter(
    lambda trials: 0 < sum(target for _, target in trials) < len(trials)
)


@given(trial_lists)
@settings(deadline=None, max_examples=150)
def test_curve_and_costs_are_those_of_brute_force_with_many_ties(trials):
    scores, targets = zip(*trials, strict=True)
    curve = det_curve(scores, targets)
    expected = np.array(brute_force(scores, targets))
    np.testing.assert_allclose(curve.false_accepts, expected[:, 0], atol=1e-15)
    np.testing.assert_allclose(curve.misses, expected[:, 1], atol=1e-15)
    for prior, miss, false in ((0.01, 1, 1), (0.05, 1, 1), (0.5, 1, 1), (0.3, 10, 2)):
        costs = [miss * prior * m + false * (1 - prior) * f for f, m in expected]
        assert least_cost(curve, prior, miss, false).value == pytest.approx(
            min(costs) / min(miss * prior, false * (1 - prior))
        )
        assert 0 <= least_cost(curve, prior, miss, false).value <= 1 + 1e-12


@given(trial_lists)
@settings(deadline=None, max_examples=150)
def test_equal_error_rate_is_that_of_the_roc_curve(trials):
    scores, targets = zip(*trials, strict=True)
    rate, _ = equal_error_rate(det_curve(scores, targets))
    false, true, _ = roc_curve(targets, scores, drop_intermediate=False)
    reference = _crossing(false, 1 - true)
    assert rate == pytest.approx(reference, abs=1e-9)


def _crossing(false, miss):
    """Where the line through the points (rising in false accepts) crosses the diagonal, in rational steps."""
    for (f0, m0), (f1, m1) in zip(zip(false, miss, strict=True), zip(false[1:], miss[1:], strict=True), strict=False):
        if f0 <= m0 and f1 >= m1:
            share = (m0 - f0) / ((m0 - f0) + (f1 - m1))
            return f0 + share * (f1 - f0)
    raise AssertionError("no crossing")


def test_equal_error_rate_is_that_of_the_usual_recipe(random):
    targets = random.random(5000) < 0.2
    scores = random.normal(size=5000) + 1.5 * targets
    found = score_verification(scores, targets)
    false, true, _ = roc_curve(targets, scores)
    assert found.eer == pytest.approx(brentq(lambda x: 1 - x - interp1d(false, true)(x), 0, 1), abs=1e-9)
    assert found.eer == pytest.approx(0.2266, abs=0.02)  # of two normal distributions 1.5 apart
    missed = (scores[targets] < found.eer_threshold).mean()
    accepted = (scores[~targets] >= found.eer_threshold).mean()
    assert (missed, accepted) == pytest.approx((found.eer, found.eer), abs=2e-3)
    assert [cost.p_target for cost in found.costs] == [0.01, 0.05]


def test_the_ends():
    perfect = score_verification([1, 2, 3, 4], [False, False, True, True])
    assert (perfect.eer, [cost.value for cost in perfect.costs]) == (0, [0, 0])
    assert perfect.costs[0].threshold == 3
    backwards = score_verification([1, 2, 3, 4], [True, True, False, False])
    assert backwards.eer == 1
    assert [cost.value for cost in backwards.costs] == [1, 1]
    assert np.isinf(backwards.costs[0].threshold)
    assert backwards.as_dict()["min_dcf"][0]["threshold"] is None
    assert score_verification([5, 5, 5], [True, False, False]).eer == 0.5


def test_order_and_scale_do_not_matter(random):
    scores, targets = random.normal(size=200).round(1), random.random(200) < 0.3
    shuffled = random.permutation(200)
    one, other = score_verification(scores, targets), score_verification(np.exp(scores)[shuffled], targets[shuffled])
    assert one.eer == pytest.approx(other.eer)
    assert [cost.value for cost in one.costs] == pytest.approx([cost.value for cost in other.costs])


def test_trials_that_cannot_be_scored():
    with pytest.raises(DataError, match="some of both kinds"):
        det_curve([1, 2], [True, True])
    with pytest.raises(DataError, match="trial 1 is not a number"):
        det_curve([1, np.nan], [True, False])
    with pytest.raises(ValueError, match="one length"):
        det_curve([1, 2, 3], [True, False])
    with pytest.raises(ValueError, match="p_target 0"):
        least_cost(det_curve([1, 2], [True, False]), 0)


def test_trial_lists_of_either_form(tmp_path):
    wanted = [Trial("id1/a.wav", "id1/b.wav", True), Trial("id1/a.wav", "id2/c.wav", False)]
    forms = {
        "voxceleb": "1 id1/a.wav id1/b.wav\n0 id1/a.wav id2/c.wav\n",
        "words": "id1/a.wav id1/b.wav target\n\nid1/a.wav\tid2/c.wav\tnontarget\n",
        "figures": "id1/a.wav id1/b.wav 1\nid1/a.wav id2/c.wav 0\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_trials(tmp_path / name) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 a b\n2 a b\n", "line 2: '2' is neither"),
        ("a b\n", "line 1: 'a b' is not"),
        ("a b maybe\n", "line 1: 'maybe' is neither"),
        ("", "no trials"),
    ],
)
def test_a_trial_list_that_is_none(tmp_path, text, said):
    (tmp_path / "trials").write_text(text)
    with pytest.raises(DataError, match=said):
        read_trials(tmp_path / "trials")


def test_scores_are_read(tmp_path):
    (tmp_path / "scores").write_text("a b 0.5\na c -1e-3\n")
    assert read_scores(tmp_path / "scores") == {("a", "b"): 0.5, ("a", "c"): -0.001}
    (tmp_path / "scores").write_text("a b high\n")
    with pytest.raises(DataError, match="line 1: the score 'high' is not a number"):
        read_scores(tmp_path / "scores")
