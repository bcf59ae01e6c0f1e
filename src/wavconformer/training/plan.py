"""Which utterances make which batch: a plan that is known for every epoch without going through the epochs before.

Utterances are sorted into buckets by length. In each epoch they are shuffled within their buckets; batches are
consecutive stretches of that order, so how many there are, and how many utterances each has, is the same in all
epochs. Batches that make one update lie beside each other, so their lengths are alike; the updates are shuffled.

(lhotse's DynamicBucketingSampler finds its batches while it reads, and can therefore restore a position only by
reading all that came before.)
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import DataError

_BATCHES_PER_BUCKET = 4  # at least, or small corpora would make the same batches in every epoch


class BatchPlan:
    """The batches of each epoch, as functions of the seed and the epoch.

    seconds: (n,) length of each utterance.
    batch_seconds: what a batch holds, padding counted; an utterance that is longer makes a batch by itself.
    group: batches that make one update, over all processes; an epoch has a multiple of them.
    buckets: most lengths that utterances are sorted into.
    shortest, longest: seconds; utterances beyond are left out.
    crop_seconds: what is used at most of an utterance; None for all. slowest: the least factor of their speed.
    seed: of the shuffling; None to go from short to long in every epoch.
    sorted_epochs: so many first epochs have their updates from short to long.

    Where batches hold a single utterance each, and their number is no multiple of the group's, some are empty.

    Raises DataError where there are fewer utterances than batches in an update, or with no seed none at all.
    """

    def __init__(
        self,
        seconds: NDArray[np.float32],
        *,
        batch_seconds: float,
        group: int = 1,
        buckets: int = 30,
        shortest: float = 0.0,
        longest: float = math.inf,
        crop_seconds: float | None = None,
        slowest: float = 1.0,
        seed: int | None = 0,
        sorted_epochs: int = 0,
    ) -> None:
        kept = np.flatnonzero((seconds >= shortest) & (seconds <= longest))
        if len(kept) < (1 if seed is None else group):
            raise DataError(
                f"{len(kept)} of {len(seconds)} utterances are between {shortest:g} and {longest:g} s long, but an "
                f"update has {group} batches over all processes: give more data, or fewer processes."
            )
        self.seed = seed
        self.group = group
        self.sorted_epochs = sorted_epochs
        self.left_out = len(seconds) - len(kept)
        self._order = kept[np.argsort(seconds[kept], kind="stable")]
        most = math.inf if crop_seconds is None else crop_seconds
        lengths = np.minimum(seconds[self._order].astype(np.float64), most) / slowest
        self._ends = _bucket_ends(lengths, batch_seconds, buckets)
        sizes = _split(_sizes(lengths, self._ends, batch_seconds), group)
        self._bounds = np.concatenate([[0], np.cumsum(sizes)])
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def updates(self) -> int:
        """Updates in an epoch."""
        return (len(self._bounds) - 1) // self.group

    @property
    def utterances(self) -> int:
        """Utterances in an epoch."""
        return len(self._order)

    def batch(self, epoch: int, update: int, member: int) -> NDArray[np.int64]:
        """The numbers of the utterances in one batch: that member, from 0 on, of that update of that epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, *self._shuffled(epoch))
        _, order, updates = self._epoch
        batch = int(updates[update]) * self.group + member
        return order[self._bounds[batch] : self._bounds[batch + 1]]

    def fingerprint(self) -> int:
        """A number that changes with the utterances in the plan, their batches and their order."""
        parts = (self._order, self._bounds, self._ends, np.array([self.group, self.sorted_epochs]))
        checksum = zlib.crc32(repr(self.seed).encode())
        for part in parts:
            checksum = zlib.crc32(part.astype(np.int64).tobytes(), checksum)
        return checksum

    def _shuffled(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of utterances and of updates in an epoch."""
        if self.seed is None:
            return self._order, np.arange(self.updates)
        random = np.random.default_rng((self.seed, epoch))
        order = self._order.copy()
        for first, end in zip([0, *self._ends[:-1]], self._ends, strict=True):
            random.shuffle(order[first:end])
        updates = np.arange(self.updates) if epoch < self.sorted_epochs else random.permutation(self.updates)
        return order, updates


def _bucket_ends(lengths: NDArray[np.float64], batch_seconds: float, most: int) -> NDArray[np.int64]:
    """Where the buckets of sorted lengths end; each holds about as many seconds."""
    total = lengths.cumsum()
    count = max(1, min(most, int(total[-1] / batch_seconds / _BATCHES_PER_BUCKET)))
    ends = np.searchsorted(total, total[-1] * np.arange(1, count) / count) + 1
    return np.unique(np.append(ends, len(lengths)))


def _sizes(lengths: NDArray[np.float64], ends: NDArray[np.int64], batch_seconds: float) -> list[int]:
    """Utterances of each batch, from the shortest on; what a bucket leaves over goes with the next longer one."""
    sizes: list[int] = []
    position = 0
    for end in ends.tolist():
        capacity = max(1, int(batch_seconds / lengths[end - 1] + 1e-6))  # lengths are rounded, too
        whole = (end - position) // capacity
        sizes += [capacity] * whole
        position += capacity * whole
    if position < len(lengths):
        sizes.append(len(lengths) - position)
    return sizes


def _split(sizes: list[int], group: int) -> NDArray[np.int64]:
    """The largest batches parted in two until their number is a multiple of the group's: none is lost or repeated."""
    array = np.array(sizes, np.int64)
    while len(array) % group:  # of one utterance, a part is empty
        largest = int(array.argmax())
        half = array[largest] // 2
        array = np.insert(array, largest, half)
        array[largest + 1] -= half
    return array
