"""Which frames belong to which label: the best path through a CTC lattice, for hours of audio in bounded memory.

A path has one state a frame. It begins in the first state or the second, ends in the last or the one before, and from
frame to frame stays, steps on by one, skips one state (a blank between two labels that differ), or takes a jump that
the lattice offers. Each frame costs what its state's column says; the cheapest path wins (Graves et al. 2006, Kürzinger
et al. 2020). With negative log probabilities as costs that is forced alignment. A constant taken off all costs of a
frame changes no path, so the costs here are counted from the frame's best label: the path of greedy decoding costs 0.

Time and memory. Only the states are kept whose cost is within `beam` of the frame's best; what lies between the first
and the last of them stays, too, so that it is one range, which moves through the lattice. Each state further on has a
`credit`, for a path that lags behind has most of its cost still before it. The sweep remembers its range every √(32 T)
frames alone and goes through each block between once more, last block first, to trace the path back with two bits for
each state and frame: memory grows with the square root of the length.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Costs: TypeAlias = NDArray[np.float32]
"""(T, U): what each frame pays for each of U columns, not negative."""

# Frames from one pruning to the next: between them the range may grow by two states a frame.
_STRIDE = 8
# Of the cost of a path, for its sum may be rounded otherwise when it is computed again.
_ROUNDING = 1e-9

# How far from a frame's best state the search looks, in nats: the first, and those after it where that is not enough.
BEAMS = (500.0, 4_000.0, 32_000.0)
# For each state further on, in nats: half of that of a label. More than one that is heard badly costs, and less than
# one that isn't said.
CREDIT = 1.0


@dataclass(frozen=True)
class Lattice:
    """States in their order, and the ways between them besides staying and stepping on by one.

    columns: (S,) the column of costs that a state's frames pay.
    skips: (S,) whether a state can be entered from two before it; for state 1, whether a path can begin there.
    jumps_from, jumps_to: (J,) states, both rising, and each jump leads onward.
    jump_costs: (J,) what a jump pays besides the frame that it leads to.
    """

    columns: NDArray[np.int64]
    skips: NDArray[np.bool_]
    jumps_from: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    jumps_to: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    jump_costs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.columns)

    def least_frames(self) -> NDArray[np.int64]:
        """(S,) the frames that a path needs at least after one in each state."""
        jumps = dict(zip(self.jumps_from.tolist(), self.jumps_to.tolist(), strict=True))
        skips = self.skips.tolist()
        count = len(self)
        needed = [0] * count
        for state in range(count - 3, -1, -1):
            least = needed[state + 1]
            if skips[state + 2]:
                least = min(least, needed[state + 2])
            if state in jumps:
                least = min(least, needed[jumps[state]])
            needed[state] = least + 1
        return np.array(needed)


def ctc_lattice(labels: Sequence[int] | NDArray[np.integer], blank: int = 0) -> Lattice:
    """The lattice of Graves et al. (2006): a blank before, between and after the labels (L,), so 2 L + 1 states."""
    columns = np.full(2 * len(labels) + 1, blank, np.int64)
    columns[1::2] = labels
    return Lattice(columns, may_skip(columns, np.arange(len(columns)) % 2 == 1))


def may_skip(columns: NDArray[np.int64], is_label: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S,) whether a state can be entered from two before it: from label to label, if the two differ."""
    skips = np.zeros(len(columns), bool)
    skips[2:] = is_label[2:] & is_label[:-2] & (columns[2:] != columns[:-2])
    skips[1:2] = True
    return skips


@dataclass(frozen=True)
class Path:
    """The cheapest path.

    states: (T,) of each frame. cost: of all frames and jumps, in nats.
    is_optimal: whether it is proven that no path of the whole lattice is cheaper. Without that proof none is cheaper
        that stays within the beam.
    """

    states: NDArray[np.int64]
    cost: float
    is_optimal: bool


def viterbi(
    costs: Costs, lattice: Lattice, *, beam: float = math.inf, credit: float = 0.0, limit: float = math.inf
) -> Path:
    """The cheapest path through the lattice.

    costs: (T, U), not negative.
    beam: states whose cost exceeds that of the frame's best by more are dropped; infinity drops none. credit: for this
        comparison, and for it alone, is taken off the cost for each state further on.
    limit: the cost of some known path: states that cost more are dropped too, which loses nothing.

    Without a beam the path is the cheapest of all. With one it is proven to be if all that was dropped cost as much
    already as the whole path does, since costs never fall along a path.

    Raises ValueError where there are fewer frames than the shortest path needs, or where nothing within the beam leads
    to the end.
    """
    sweep = _Sweep(costs, lattice, beam, credit, limit * (1 + _ROUNDING))
    least = 1 + int(sweep.needed[:2].min())
    if len(costs) < least:
        raise ValueError(f"The labels need at least {least} frames, and there are {len(costs)}.")
    block = max(64, math.isqrt(32 * len(costs)))
    starts = range(0, len(costs), block)
    memory = []
    for start in starts:
        memory.append(sweep.remember())
        sweep.run(start, min(start + block, len(costs)))
    cost, state = sweep.end()
    states = np.empty(len(costs), np.int64)
    sources = dict(zip(lattice.jumps_to.tolist(), lattice.jumps_from.tolist(), strict=True))
    for start in reversed(starts):
        sweep.restore(memory.pop())
        stop = min(start + block, len(costs))
        choices = sweep.run(start, stop, remembering=True)
        for frame in range(stop - 1, start - 1, -1):
            states[frame] = state
            low, steps, skips = choices.pop()
            place, bit = (state - low) >> 3, 7 - ((state - low) & 7)
            has_stepped, has_skipped = steps[place] >> bit & 1, skips[place] >> bit & 1
            state = sources[state] if has_stepped and has_skipped else state - int(has_stepped + 2 * has_skipped)
    return Path(states, cost, bool(sweep.cheapest_dropped >= cost))


def best_path(costs: Costs, lattice: Lattice, *, usual: float, beams: Sequence[float] = BEAMS) -> Path:
    """The cheapest path, by a beam that is widened where the path found has an expensive stretch.

    usual: what a frame may well cost. A stretch's expense is what its frames and jumps cost beyond that; the way round
        it may be about as expensive at first. So where any stretch's is more than half the beam, and nothing is proven,
        the next of the `beams` is taken.

    Raises ValueError as `viterbi` does.
    """
    path = None
    for beam in beams:
        try:
            path = viterbi(costs, lattice, beam=beam, credit=CREDIT, limit=math.inf if path is None else path.cost)
        except _LostError:
            continue
        if path.is_optimal or most_expensive(costs, lattice, path, usual) <= beam / 2:
            break
    return viterbi(costs, lattice) if path is None else path


def frame_costs(costs: Costs, lattice: Lattice, path: Path) -> NDArray[np.float64]:
    """(T,) what each frame of a path costs, with the jump that led to it."""
    states = path.states
    paid = costs[np.arange(len(states)), lattice.columns[states]].astype(np.float64)
    if len(lattice.jumps_to):
        before = np.concatenate([[-1], states[:-1]])
        jump = np.searchsorted(lattice.jumps_to, states).clip(max=len(lattice.jumps_to) - 1)
        has_jumped = (lattice.jumps_to[jump] == states) & (lattice.jumps_from[jump] == before)
        paid += np.where(has_jumped, lattice.jump_costs[jump], 0.0)
    return paid


def most_expensive(costs: Costs, lattice: Lattice, path: Path, usual: float) -> float:
    """What the most expensive stretch of a path costs beyond `usual` for each of its frames."""
    total = np.concatenate([[0.0], np.cumsum(frame_costs(costs, lattice, path) - usual)])
    return float((total - np.minimum.accumulate(total)).max())


class _LostError(ValueError):
    """No state within the beam leads to the end."""


class _Sweep:
    """The cost of the cheapest way to each state, frame after frame."""

    def __init__(self, costs: Costs, lattice: Lattice, beam: float, credit: float, limit: float) -> None:
        count = len(lattice)
        self.costs = costs
        self.lattice = lattice
        self.beam = beam
        self.limit = limit
        self.needed = lattice.least_frames()
        self._longest = int(self.needed.max())
        self._credits = credit * np.arange(count)
        self._skip_costs = np.where(lattice.skips, 0.0, math.inf)
        self._sources = lattice.jumps_from.tolist()
        # State s is at s + 2: what lies before the first is out of reach, but for where a path begins.
        self._now = np.full(count + 2, math.inf)
        self._next = np.full(count + 2, math.inf)
        self._best, self._other = np.empty(count), np.empty(count)
        self._paid = np.empty(count, costs.dtype)
        self._now[1] = 0.0
        self._low, self._high = 0, 0
        self._ceiling = math.inf
        self.cheapest_dropped = math.inf

    def remember(self) -> tuple[int, int, float, float, NDArray[np.float64]]:
        """All that it takes to go on from here."""
        return self._low, self._high, self._ceiling, self._now[1], self._now[self._low + 2 : self._high + 2].copy()

    def restore(self, memory: tuple[int, int, float, float, NDArray[np.float64]]) -> None:
        self._now.fill(math.inf)
        self._next.fill(math.inf)
        self._low, self._high, self._ceiling, self._now[1], known = memory
        self._now[self._low + 2 : self._high + 2] = known

    def end(self) -> tuple[float, int]:
        """The cost of the cheapest path, and its last state."""
        last = len(self.lattice) - 1
        state = last if last == 0 or self._now[last + 2] <= self._now[last + 1] else last - 1
        return float(self._now[state + 2]), state

    def run(
        self, start: int, stop: int, *, remembering: bool = False
    ) -> list[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Goes through frames start … stop - 1.

        Returns, if asked to remember, for each frame the first state of the range and two bits for each state: stayed
        (neither), stepped (the first), skipped (the second) or jumped (both).
        """
        choices = []
        columns, skip_costs, count = self.lattice.columns, self._skip_costs, len(self.lattice)
        jumps_from, jumps_to, jump_costs = self.lattice.jumps_from, self.lattice.jumps_to, self.lattice.jump_costs
        now, after, low, high = self._now, self._next, self._low, self._high
        last = len(self.costs) - 1
        for frame in range(start, stop):
            top = min(high + 2, count)
            one, end = bisect_left(self._sources, low), bisect_left(self._sources, high)
            if one < end:
                arriving = now[jumps_from[one:end] + 2] + jump_costs[one:end]
                targets = jumps_to[one:end]
                within = np.minimum(self._ceiling + self._credits[targets], self.limit) >= arriving
                self._drop(arriving[~within])
                arriving, targets = arriving[within], targets[within]
                if len(targets):
                    top = max(top, int(targets[-1]) + 1)
            size = top - low
            stay, step = now[low + 2 : top + 2], now[low + 1 : top + 1]
            best = np.minimum(stay, step, out=self._best[:size])
            skip = np.add(now[low:top], skip_costs[low:top], out=self._other[:size])
            if remembering:
                has_skipped = skip < best
                has_stepped = (step < stay) & ~has_skipped
            np.minimum(best, skip, out=best)
            if one < end:
                cheaper = arriving < best[targets - low]
                places = targets[cheaper] - low
                best[places] = arriving[cheaper]
                if remembering:
                    has_skipped[places] = has_stepped[places] = True
            if remembering:
                choices.append((low, np.packbits(has_stepped), np.packbits(has_skipped)))
            paid = self.costs[frame].take(columns[low:top], out=self._paid[:size], mode="clip")
            np.add(best, paid, out=after[low + 2 : top + 2])
            now, after, high = after, now, top
            after[1] = math.inf
            if frame % _STRIDE == 0 or last - frame < self._longest:
                low, high = self._prune(now, after, low, high, last - frame)
        self._now, self._next, self._low, self._high = now, after, low, high
        return choices

    def _prune(
        self, now: NDArray[np.float64], after: NDArray[np.float64], low: int, high: int, frames_left: int
    ) -> tuple[int, int]:
        """Drops states at both sides of the range; returns what is left of it."""
        reached = now[low + 2 : high + 2]
        if frames_left < self._longest:
            reached[self.needed[low:high] > frames_left] = math.inf
        merits = reached - self._credits[low:high]
        best = float(merits.min())
        if math.isinf(best):
            raise _LostError(f"The beam of {self.beam:g} is too narrow: nothing within it leads to the end.")
        self._ceiling = best + self.beam
        kept = np.flatnonzero((merits <= self._ceiling) & (reached <= min(self.limit, np.finfo(np.float64).max)))
        first, end = int(kept[0]), int(kept[-1]) + 1
        self._drop(reached[:first])
        self._drop(reached[end:])
        reached[:first] = reached[end:] = math.inf
        after[low + 2 : high + 2] = math.inf
        return low + first, low + end

    def _drop(self, costs: NDArray[np.float64]) -> None:
        """Takes note of states that are dropped, or of ways to them."""
        if len(costs):
            self.cheapest_dropped = min(self.cheapest_dropped, float(costs.min()))
