from __future__ import annotations

import random as python_random

import numpy as np
import pytest
from scipy.stats import binomtest

from wavconformer.scoring.intervals import bootstrap, improvement, wilson


@pytest.fixture
def counts(random):
    lengths = random.integers(1, 30, 60)
    return random.binomial(lengths, random.beta(1, 4, 60)), lengths


def by_hand(errors, lengths, draws):
    rates = sorted(sum(errors[i] for i in drawn) / sum(lengths[i] for i in drawn) for drawn in draws)
    return np.quantile(rates, [0.025, 0.975])


def test_a_loop_over_the_same_draws_gives_the_same(counts):
    errors, lengths = counts
    draws = np.random.default_rng(7).integers(60, size=(500, 60))
    found = bootstrap(errors, lengths, resamples=500, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(by_hand(errors, lengths, draws)), abs=1e-15)


def test_a_loop_over_other_draws_gives_nearly_the_same(counts):
    errors, lengths = counts
    source = python_random.Random(1)
    draws = [source.choices(range(60), k=60) for _ in range(4000)]
    low, high = by_hand(errors.tolist(), lengths.tolist(), draws)
    found = bootstrap(errors, lengths)
    assert low < errors.sum() / lengths.sum() < high
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_the_interval_holds_the_truth_about_as_often_as_it_says(random):
    held = 0
    for _ in range(200):
        lengths = random.integers(5, 15, 100)
        found = bootstrap(random.binomial(lengths, 0.2), lengths, resamples=300, seed=random)
        held += found.low <= 0.2 <= found.high
    assert 178 <= held <= 199  # 190 are expected; four standard deviations are 12


def test_many_utterances_are_resampled_in_pieces(random, monkeypatch):
    lengths = random.integers(1, 30, 1000)
    errors = random.binomial(lengths, 0.1)
    whole = bootstrap(errors, lengths, resamples=2000)
    monkeypatch.setattr("wavconformer.scoring.intervals._DRAWS_AT_ONCE", 3500)
    pieces = bootstrap(errors, lengths, resamples=2000)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=2e-3)


def test_nothing_to_resample_has_no_interval():
    assert bootstrap([], []) is None
    assert bootstrap([1], [4]) is None
    assert bootstrap([1, 2], [0, 0]) is None
    assert bootstrap([0, 0, 0], [5, 4, 3]).high == 0


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (3, 7), (997, 1000), (1, 1)])
def test_wilson_is_that_of_scipy(hits, count):
    reference = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    found = wilson(hits, count)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert wilson(0, 0) is None


def test_which_of_two_is_better():
    errors = np.array([0, 1, 2, 3] * 25)
    assert improvement(errors, errors + 1) == 1.0
    assert improvement(errors + 1, errors) == 0.0
    assert improvement(errors, errors) == 0.5
    other = np.roll(errors, 1)
    assert improvement(errors, other, seed=3) == pytest.approx(1 - improvement(other, errors, seed=3))
    with pytest.raises(ValueError, match="same utterances"):
        improvement([1, 2], [1])
