"""Groups of like length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavconformer.tasks.batching import LEAST_SHARE, batches


@given(st.lists(st.floats(0.03, 30), max_size=40), st.floats(0.1, 60), st.floats(0, 2))
def test_groups_hold_everything_once_and_keep_their_bounds(lengths, most, spare):
    groups = batches(lengths, most, spare)
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[number] for number in group)
        assert lengths[group[0]] == longest
        assert len(group) == 1 or longest * len(group) <= most
        assert min(lengths[number] for number in group) >= min(LEAST_SHARE * longest, longest - spare)


@pytest.mark.parametrize(
    ("lengths", "most", "expected"),
    [
        ([], 8, []),
        ([1.0, 9.0, 1.0], 8, [[1], [0, 2]]),
        ([2.0, 2.0, 2.0, 2.0, 2.0], 8, [[0, 1, 2, 3], [4]]),
        ([1.0, 0.5, 0.9], 8, [[0, 2], [1]]),
    ],
)
def test_groups(lengths, most, expected):
    assert batches(lengths, most) == expected


def test_groups_with_time_to_spare():
    assert batches([1.0, 2.0, 2.9], 9, 1.0) == [[2, 1], [0]]
    assert batches([1.0, 2.0, 2.9], 9, 2.0) == [[2, 1, 0]]
    assert batches([1.0, 2.0, 2.9], 8, 2.0) == [[2, 1], [0]]
