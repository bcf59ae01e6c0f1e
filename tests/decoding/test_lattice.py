from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from wavconformer.decoding.lattice import (
    Lattice,
    best_path,
    ctc_lattice,
    frame_costs,
    most_expensive,
    viterbi,
)


def random_costs(seed: int, frames: int, columns: int) -> np.ndarray:
    """As of log probabilities, in steps of 1/64 so that sums are exact whatever their order."""
    drawn = np.random.default_rng(seed).exponential(2.0, (frames, columns))
    return (np.round(drawn * 64) / 64).astype(np.float32)


def ways(lattice: Lattice, state: int) -> dict[int, float]:
    """Where a path may go from a state, and for what besides the frame."""
    found = {state: 0.0, state + 1: 0.0}
    if state + 2 < len(lattice) and lattice.skips[state + 2]:
        found[state + 2] = 0.0
    for source, target, cost in zip(lattice.jumps_from, lattice.jumps_to, lattice.jump_costs, strict=True):
        if source == state:
            found[int(target)] = min(cost, found.get(int(target), math.inf))
    return {target: cost for target, cost in found.items() if target < len(lattice)}


def exhaustive(costs: np.ndarray, lattice: Lattice) -> float:
    """The least cost of all paths, one by one."""
    least = math.inf
    last = len(lattice) - 1

    def go(frame: int, state: int, cost: float) -> None:
        nonlocal least
        cost += float(costs[frame, lattice.columns[state]])
        if frame == len(costs) - 1:
            if state >= last - 1:
                least = min(least, cost)
            return
        for target, price in ways(lattice, state).items():
            go(frame + 1, target, cost + price)

    go(0, 0, 0.0)
    if len(lattice) > 1:
        go(0, 1, 0.0)
    return least


def cost_of(costs: np.ndarray, lattice: Lattice, states: np.ndarray) -> float:
    """What a path costs, and that it is one."""
    assert states[0] in (0, 1)
    assert states[-1] >= len(lattice) - 2
    total = float(costs[0, lattice.columns[states[0]]])
    for frame, (before, state) in enumerate(itertools.pairwise(states.tolist()), start=1):
        total += ways(lattice, before)[state] + float(costs[frame, lattice.columns[state]])
    return total


def with_jumps(labels: list[int], length: int) -> Lattice:
    """A CTC lattice with jumps over every `length` labels."""
    plain = ctc_lattice(labels)
    borders = np.array([*range(0, len(plain), 2 * length)])
    costs = np.full(len(borders) - 1, 3.0)
    return Lattice(plain.columns, plain.skips, borders[:-1], borders[1:], costs)


labels_of = st.lists(st.integers(1, 3), max_size=4)


@settings(max_examples=60, deadline=None)
@given(labels_of, st.integers(1, 8), st.integers(0, 10**6))
def test_the_path_is_the_cheapest_of_all(labels, frames, seed):
    lattice, costs = ctc_lattice(labels), random_costs(seed, frames, 4)
    least = len(labels) + sum(one == other for one, other in itertools.pairwise(labels))
    if frames < max(least, 1):
        with pytest.raises(ValueError, match=f"need at least {least} frames, and there are {frames}"):
            viterbi(costs, lattice)
        return
    path = viterbi(costs, lattice)
    assert path.cost == exhaustive(costs, lattice) == cost_of(costs, lattice, path.states)
    assert path.is_optimal
    assert frame_costs(costs, lattice, path).sum() == path.cost


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=4, max_size=4), st.integers(3, 7), st.integers(0, 10**6))
def test_jumps_are_taken_where_they_are_cheaper(labels, frames, seed):
    lattice, costs = with_jumps(labels, 2), random_costs(seed, frames, 4)
    path = viterbi(costs, lattice)
    assert path.cost == exhaustive(costs, lattice) == cost_of(costs, lattice, path.states)
    assert frame_costs(costs, lattice, path).sum() == path.cost


def forced_align(log_probs: np.ndarray, targets: list[int], blank: int = 0) -> tuple[list[int], float]:
    """The plain trellis over all states, as torchaudio.functional.forced_align has it: labels of frames, and score."""
    extended = [blank]
    for target in targets:
        extended += [target, blank]
    score = np.full((len(log_probs), len(extended)), -math.inf)
    origin = np.zeros(score.shape, int)
    score[0, :2] = log_probs[0, extended[:2]]
    for frame in range(1, len(log_probs)):
        for state in range(len(extended)):
            before = [score[frame - 1, state]]
            if state >= 1:
                before.append(score[frame - 1, state - 1])
            if state >= 2 and extended[state] != blank and extended[state] != extended[state - 2]:
                before.append(score[frame - 1, state - 2])
            origin[frame, state] = state - int(np.argmax(before))
            score[frame, state] = max(before) + log_probs[frame, extended[state]]
    state = len(extended) - 1 - int(score[-1, -2] > score[-1, -1])
    total, found = score[-1, state], []
    for frame in range(len(log_probs) - 1, -1, -1):
        found.append(extended[state])
        state = origin[frame, state]
    return found[::-1], float(total)


@pytest.mark.parametrize("seed", range(5))
def test_log_probabilities_give_what_forced_align_gives(seed):
    random = np.random.default_rng(seed)
    logits = random.standard_normal((90, 12)) * 3
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = random.integers(1, 12, 25).tolist()
    expected, score = forced_align(log_probs, targets)
    # The frame's best label may stand for 1: no path changes.
    for costs in (-log_probs, log_probs.max(-1, keepdims=True) - log_probs):
        lattice = ctc_lattice(targets)
        path = viterbi(costs, lattice)
        assert_array_equal(lattice.columns[path.states], expected)
    assert viterbi(-log_probs, lattice).cost == pytest.approx(-score)


def speech(random: np.random.Generator, labels: list[int], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Costs of frames in which the labels are heard one by one with pauses between, and the frame of each."""
    places = np.cumsum(random.integers(2, 6, len(labels)))
    costs = random.uniform(6, 12, (int(places[-1]) + 4, columns)).astype(np.float32)
    costs[:, 0] = random.uniform(0, 0.2, len(costs))
    costs[places, 0] = random.uniform(3, 8, len(places))
    costs[places, labels] = random.uniform(0, 1, len(places))
    return costs, places


@pytest.fixture(scope="module")
def long():
    random = np.random.default_rng(3)
    labels = random.integers(1, 20, 1_500).tolist()
    costs, places = speech(random, labels, 20)
    return costs, labels, places


def test_a_beam_gives_the_whole_lattices_path(long):
    costs, labels, places = long
    lattice = ctc_lattice(labels)
    whole = viterbi(costs, lattice)
    assert whole.is_optimal
    for beam in (60.0, 2_000.0):
        path = viterbi(costs, lattice, beam=beam)
        assert_array_equal(path.states, whole.states)
        assert path.is_optimal == (beam > whole.cost)
    assert_array_equal(np.searchsorted(whole.states, 1 + 2 * np.arange(len(labels))), places)


def test_dropping_what_costs_more_than_a_known_path_loses_nothing(long):
    costs, labels, _ = long
    lattice = ctc_lattice(labels)
    path = viterbi(costs, lattice, limit=viterbi(costs, lattice, beam=60.0).cost)
    assert path.is_optimal
    assert_array_equal(path.states, viterbi(costs, lattice).states)


def test_a_beam_too_narrow_is_no_proof_and_is_widened(long):
    costs, labels, places = long
    # The middle third of the text isn't said; to jump over it costs more than a narrow beam sees.
    middle = slice(places[500], places[1_000])
    heard = np.delete(costs, middle, axis=0)
    plain = ctc_lattice(labels)
    borders = np.arange(0, len(plain), 100)
    lattice = Lattice(plain.columns, plain.skips, borders[:-1], borders[1:], np.full(len(borders) - 1, 200.0))
    whole = viterbi(heard, lattice)
    narrow = viterbi(heard, lattice, beam=300.0)
    assert not narrow.is_optimal
    assert narrow.cost > whole.cost + 1_000
    assert most_expensive(heard, lattice, narrow, usual=1.0) > 150.0
    path = best_path(heard, lattice, usual=1.0, beams=(300.0, 1_000.0, 8_000.0))
    assert_array_equal(path.states, whole.states)
    assert_array_equal(best_path(heard, lattice, usual=1.0, beams=(8_000.0,)).states, whole.states)


def test_the_least_frames_count_repeats_and_jumps():
    assert ctc_lattice([1, 1, 2]).least_frames().tolist() == [4, 3, 2, 1, 1, 0, 0]
    assert with_jumps([1, 2, 3, 1], 2).least_frames()[0] == 2


def test_as_many_frames_as_labels_leave_one_path():
    lattice = ctc_lattice([1, 1, 2, 3])
    path = viterbi(random_costs(0, 5, 4), lattice, beam=0.5)
    assert path.states.tolist() == [1, 2, 3, 5, 7]


def test_a_beam_in_which_nothing_leads_to_the_end():
    labels = [1, 2] * 15
    plain = ctc_lattice(labels)
    borders = np.arange(0, len(plain), 20)
    lattice = Lattice(plain.columns, plain.skips, borders[:-1], borders[1:], np.full(len(borders) - 1, 500.0))
    costs = random_costs(0, 12, 3)
    with pytest.raises(ValueError, match="beam of 1 is too narrow: nothing within it leads to the end"):
        viterbi(costs, lattice, beam=1.0)
    whole = viterbi(costs, lattice)
    for beams in ((1.0,), (1.0, 2.0), (1.0, 5_000.0)):
        path = best_path(costs, lattice, usual=1.0, beams=beams)
        assert path.cost == whole.cost
        assert path.is_optimal


def test_the_widest_beam_is_the_last_that_is_tried(long):
    costs, labels, _ = long
    path = best_path(costs, ctc_lattice(labels), usual=0.0, beams=(60.0, 61.0))
    assert not path.is_optimal
    assert_array_equal(path.states, viterbi(costs, ctc_lattice(labels)).states)


def test_no_labels_are_all_blank():
    assert viterbi(random_costs(0, 5, 1), ctc_lattice([])).states.tolist() == [0] * 5
