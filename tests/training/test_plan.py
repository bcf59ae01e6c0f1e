from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer.errors import DataError
from wavconformer.training.plan import BatchPlan


def lengths(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4.0, 1.5, count).clip(0.5, 25).astype(np.float32)


def flat(batches: list[list[int]]) -> list[int]:
    """All numbers in order."""
    return sorted(number for batch in batches for number in batch)


def whole_epoch(plan: BatchPlan, epoch: int) -> list[list[int]]:
    return [plan.batch(epoch, u, m).tolist() for u in range(plan.updates) for m in range(plan.group)]


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.lists(st.floats(0.125, 30, width=32), min_size=8, max_size=80),
    batch_seconds=st.floats(1, 90),
    group=st.integers(1, 8),
    buckets=st.integers(1, 12),
    epoch=st.integers(0, 10**6),
)
def test_an_epoch_has_each_utterance_once_in_batches_that_hold_it(seconds, batch_seconds, group, buckets, epoch):
    array = np.array(seconds, np.float32)
    plan = BatchPlan(array, batch_seconds=batch_seconds, group=group, buckets=buckets)
    batches = whole_epoch(plan, epoch)
    assert flat(batches) == list(range(len(seconds)))
    assert len(batches) % group == 0
    if not all(batches):
        assert max(map(len, batches)) == 1  # there was nothing to part
    for batch in filter(None, batches):
        assert len(batch) == 1 or array[batch].max() * len(batch) <= batch_seconds * 1.001


def test_epochs_differ_and_repeat():
    plan, again = (BatchPlan(lengths(500), batch_seconds=60, seed=3) for _ in range(2))
    assert whole_epoch(plan, 0) == whole_epoch(again, 0)
    assert whole_epoch(plan, 7) == whole_epoch(again, 7)
    assert whole_epoch(plan, 0) != whole_epoch(plan, 1)
    assert whole_epoch(plan, 0) != whole_epoch(BatchPlan(lengths(500), batch_seconds=60, seed=4), 0)


def test_batches_change_from_epoch_to_epoch_and_not_only_their_order():
    plan = BatchPlan(lengths(300), batch_seconds=60)
    first, second = ({frozenset(batch) for batch in whole_epoch(plan, epoch)} for epoch in (0, 1))
    assert len(first & second) < len(first) / 4


def test_buckets_spare_padding():
    seconds = lengths(2000)

    def filled(buckets: int) -> float:
        batches = whole_epoch(BatchPlan(seconds, batch_seconds=120, buckets=buckets), 0)
        return seconds.sum() / sum(seconds[batch].max() * len(batch) for batch in batches)

    assert filled(30) > 0.9
    assert filled(1) < 0.7


def test_batches_are_filled():
    plan = BatchPlan(lengths(2000), batch_seconds=120)
    assert lengths(2000).sum() / 120 / (plan.updates * plan.group) > 0.85


def test_an_update_is_the_same_however_it_is_spread():
    seconds = lengths(400)
    one, two = BatchPlan(seconds, batch_seconds=30, group=4), BatchPlan(seconds, batch_seconds=30, group=4)
    assert one.fingerprint() == two.fingerprint()
    assert one.updates == two.updates
    batches = whole_epoch(one, 2)
    assert [flat(batches[4 * u : 4 * u + 4]) for u in range(one.updates)] == [
        flat([two.batch(2, u, m).tolist() for m in range(4)]) for u in range(two.updates)
    ]


def test_members_of_an_update_are_alike_in_length():
    seconds = lengths(2000)
    plan = BatchPlan(seconds, batch_seconds=60, group=4)
    spans = []
    for update in range(plan.updates):
        longest = [seconds[plan.batch(0, update, member)].max() for member in range(4)]
        spans.append(max(longest) - min(longest))
    assert np.median(spans) < 0.5


def test_sorted_epochs_go_from_short_to_long():
    seconds = lengths(500)
    plan = BatchPlan(seconds, batch_seconds=60, sorted_epochs=2)

    def rises(epoch: int) -> bool:
        means = [seconds[batch].mean() for batch in whole_epoch(plan, epoch)]
        return np.corrcoef(means, np.arange(len(means)))[0, 1] > 0.9

    assert [rises(epoch) for epoch in range(4)] == [True, True, False, False]
    assert whole_epoch(plan, 0) != whole_epoch(plan, 1)


def test_without_a_seed_all_epochs_are_one():
    plan = BatchPlan(lengths(100), batch_seconds=30, seed=None)
    assert whole_epoch(plan, 0) == whole_epoch(plan, 5)


def test_what_is_too_short_or_long_is_left_out():
    seconds = np.array([0.1, 1, 2, 30, 40], np.float32)
    plan = BatchPlan(seconds, batch_seconds=10, shortest=0.5, longest=30)
    assert plan.left_out == 2
    assert plan.utterances == 3
    assert flat(whole_epoch(plan, 0)) == [1, 2, 3]


def test_cropping_and_slowing_down_count():
    seconds = np.full(12, 100, np.float32)
    assert BatchPlan(seconds, batch_seconds=40, crop_seconds=10).updates == 3
    assert BatchPlan(seconds, batch_seconds=40, crop_seconds=10, slowest=0.9).updates == 4


def test_fewer_utterances_than_processes_are_refused():
    with pytest.raises(DataError, match="2 of 3 utterances are between 1 and inf s long, but an update has 3 batches"):
        BatchPlan(np.array([0.5, 1, 2], np.float32), batch_seconds=10, group=3, shortest=1)


def test_evaluation_of_few_utterances_leaves_processes_without():
    plan = BatchPlan(np.ones(2, np.float32), batch_seconds=10, group=3, seed=None)
    assert sorted(whole_epoch(plan, 0)) == [[], [0], [1]]
    with pytest.raises(DataError, match="0 of 2 utterances"):
        BatchPlan(np.ones(2, np.float32), batch_seconds=10, shortest=2, seed=None)


def test_a_fingerprint_tells_plans_apart():
    seconds = lengths(100)
    plans = [
        BatchPlan(seconds, batch_seconds=30),
        BatchPlan(seconds, batch_seconds=45),
        BatchPlan(seconds, batch_seconds=30, seed=1),
        BatchPlan(seconds, batch_seconds=30, group=2),
        BatchPlan(seconds, batch_seconds=30, sorted_epochs=1),
        BatchPlan(seconds[::-1], batch_seconds=30),
        BatchPlan(seconds[:-1], batch_seconds=30),
    ]
    assert len({plan.fingerprint() for plan in plans}) == len(plans)
