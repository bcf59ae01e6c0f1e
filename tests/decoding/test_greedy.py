from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from wavconformer.decoding.greedy import Tokens, greedy
from wavconformer.decoding.words import Word, words

BLANK = 0


@given(st.lists(st.integers(0, 4), max_size=40))
def test_greedy_is_collapse_then_drop(ids):
    expected, start = [], 0
    for token, run in groupby(ids):
        end = start + len(list(run))
        if token != BLANK:
            expected.append((token, start, end))
        start = end
    tokens = greedy(np.array(ids, dtype=np.int64), BLANK)
    found = list(zip(tokens.ids.tolist(), tokens.start.tolist(), tokens.end.tolist(), strict=True))
    assert found == expected
    assert len(tokens) == len(expected)


def test_a_blank_keeps_doubled_letters_apart():
    assert_array_equal(greedy(np.array([1, 1, 0, 1, 2]), BLANK).ids, [1, 1, 2])


def test_words_are_parted_by_the_delimiter():
    tokens = greedy(np.array([0, 1, 1, 2, 0, 3, 3, 0, 2, 0]), BLANK)
    assert words(tokens, [None, "A", "B", " "], 0.02) == (Word("AB", 0.02, 0.08), Word("B", 0.16, 0.18))


def test_silent_and_unknown_ids_leave_nothing():
    tokens = Tokens(np.array([4, 1, 9, 3, 3, 4]), np.arange(6), np.arange(1, 7))
    assert words(tokens, [None, "A", "B", " ", None], 0.02) == (Word("A", 0.02, 0.04),)
