from __future__ import annotations

import itertools
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from wavconformer.decoding import path
from wavconformer.decoding.greedy import greedy
from wavconformer.decoding.path import best_path


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_the_path_is_the_likeliest_that_reads_so(seed, frames, ids):
    log_probs = np.random.default_rng(seed).normal(size=(frames, 4))
    paths = [
        way
        for way in itertools.product(range(4), repeat=frames)
        if [token for token, _ in groupby(way) if token] == ids
    ]
    if not paths:
        with pytest.raises(ValueError, match="too few"):
            best_path(log_probs, np.array(ids), 0)
        return
    best = max(paths, key=lambda way: log_probs[np.arange(frames), way].sum())
    found, expected = best_path(log_probs, np.array(ids), 0), greedy(np.array(best), 0)
    assert_array_equal(found.ids, expected.ids)
    assert_array_equal(found.start, expected.start)
    assert_array_equal(found.end, expected.end)
    spans = zip(found.ids, found.start, found.end, strict=True)
    assert_allclose(
        found.probabilities, [np.exp(log_probs[start:end, token].max()) for token, start, end in spans], rtol=1e-6
    )


def test_the_delimiter_may_come_again_between_words_and_at_the_ends():
    frames = [1, 0, 1, 2, 1, 0, 1, 0, 1, 3, 0, 1]
    log_probs = np.where(np.eye(4)[frames] > 0, 0.0, -9.0)
    found = best_path(log_probs, np.array([2, 1, 3]), 0, delimiter=1)
    assert_array_equal(found.start[[0, 2]], [3, 9])
    assert_array_equal(found.end[[0, 2]], [4, 10])


def test_nothing_has_no_frames():
    assert len(best_path(np.zeros((3, 2)), np.zeros(0, np.int64), 0)) == 0


def test_what_is_ruled_out_is_refused():
    with pytest.raises(ValueError, match="rule them out"):
        best_path(np.full((3, 2), -np.inf), np.array([1]), 0)


def test_frames_in_blocks_give_the_same(monkeypatch):
    random = np.random.default_rng(0)
    log_probs, ids = random.normal(size=(50, 5)), random.integers(1, 5, 12)
    whole = best_path(log_probs, ids, 0, delimiter=1)
    monkeypatch.setattr(path, "BLOCK", 7)
    parts = best_path(log_probs, ids, 0, delimiter=1)
    for name in ("start", "end", "probabilities"):
        assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_no_frames_are_too_few():
    with pytest.raises(ValueError, match="0 frames are too few"):
        best_path(np.zeros((0, 3)), np.array([1]), 0)
