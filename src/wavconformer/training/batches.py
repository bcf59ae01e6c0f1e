"""The stream of batches that a training process reads, and its position in it."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from wavconformer.data.corpus import Corpus
from wavconformer.errors import DataError
from wavconformer.training.examples import Batch, Examples
from wavconformer.training.plan import BatchPlan
from wavconformer.training.starting import Start

_Key = tuple[int, NDArray[np.int64]]  # epoch, and the numbers of a batch's utterances


@dataclass(frozen=True)
class Share:
    """Whose batches they are: of process `rank` of `world`.

    pin_memory: whether they lie in memory that an accelerator copies from at once.
    """

    rank: int = 0
    world: int = 1
    pin_memory: bool = False


ALONE = Share()


class Batches:
    """The batches of one process among several, epoch after epoch, from any position on.

    examples: makes the batches. plan: says which there are; its group is a multiple of `share.world`.
    share: which of them this process has.
    workers: processes that make batches ahead of their use; 0 for none besides this one.

    Iterating never ends: it goes on behind the last batch that was given out. `epoch`, `update` and `member` are the
    position of the next one: the members of an update are the batches that this process accumulates for it.
    """

    def __init__(self, examples: Examples, plan: BatchPlan, share: Share = ALONE, *, workers: int = 0) -> None:
        rank, world = share.rank, share.world
        if not 0 <= rank < world or plan.group % world:
            raise ValueError(
                f"rank {rank} of {world} processes doesn't fit a plan with {plan.group} batches an update."
            )
        self.examples = examples
        self.plan = plan
        self.epoch, self.update, self.member = 0, 0, 0
        self._rank, self._world = rank, world
        self._workers = workers
        self._pin_memory = share.pin_memory
        self._loading: list[Any] = []  # what has workers now

    @property
    def members(self) -> int:
        """Batches of this process in one update."""
        return self.plan.group // self._world

    def __len__(self) -> int:
        """Batches of this process in an epoch: the same number for every process and epoch."""
        return self.plan.updates * self.members

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loaded(self._keys(self.epoch, self.update, self.member)):
            self.member += 1
            if self.member == self.members:
                self.update, self.member = self.update + 1, 0
            if self.update == self.plan.updates:
                self.epoch, self.update = self.epoch + 1, 0
            yield batch

    def once(self) -> Iterator[Batch]:
        """The batches of the first epoch from its beginning to its end; the position stays as it is."""
        keys = self._keys(0, 0, 0)
        yield from self._loaded(next(keys) for _ in range(len(self)))

    def close(self) -> None:
        """Ends the workers, whoever still refers to their batches: an error that ends the run would wait for them."""
        while self._loading:
            _end_workers(self._loading.pop())

    def state_dict(self) -> dict[str, int]:
        """The position behind the last batch that was given out, in a few numbers however far it is."""
        return {
            "epoch": self.epoch,
            "update": self.update,
            "member": self.member,
            "world": self._world,
            "plan": self.plan.fingerprint(),
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes to a position, at once: nothing before it is read or counted.

        The number of processes may have changed between updates, where as many batches as before make one.

        Raises DataError where the corpus, its batches or the seed are others than those of the position.
        """
        if state["plan"] != self.plan.fingerprint():
            raise DataError(
                "The data position can't be restored: the corpus, the seed, trainer.batch_seconds, data.buckets, the "
                "lengths that are left out, or processes × trainer.accumulate have changed since. Restore them, or "
                "start a new run from the checkpoint (model.init)."
            )
        if state["member"] and state["world"] != self._world:
            raise DataError(
                f"The data position lies within an update of {state['world']} processes: go on with as many."
            )
        self.epoch, self.update, self.member = state["epoch"], state["update"], state["member"]

    def _keys(self, epoch: int, update: int, member: int) -> Iterator[_Key]:
        while True:
            yield epoch, self.plan.batch(epoch, update, member * self._world + self._rank)
            member += 1
            if member == self.members:
                update, member = update + 1, 0
            if update == self.plan.updates:
                epoch, update = epoch + 1, 0

    def _loaded(self, keys: Iterator[_Key]) -> Iterator[Batch]:
        loader: DataLoader[Batch] = DataLoader(
            self.examples,  # type: ignore[arg-type]  # all that it is asked for is __getitem__
            batch_size=None,
            sampler=keys,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            prefetch_factor=4 if self._workers else None,
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator(),  # or it would draw from the global one, and a resumed run would differ
        )
        loading = iter(loader)
        self._loading.append(loading)
        try:
            yield from loading
        finally:
            if loading in self._loading:
                self._loading.remove(loading)
            _end_workers(loading)


def training_batches(start: Start, share: Share = ALONE) -> Batches:
    """The batches that a run trains on.

    Raises DataError where the data isn't prepared, too little for so many processes, or lacks what the task needs.
    """
    data, trainer = start.recipe.data, start.recipe.trainer
    if not data.train:
        raise DataError("data.train names no manifest: give what `wavconformer prepare` wrote.")
    examples = Examples(start, Corpus.open(*data.train))
    plan = BatchPlan(
        examples.corpus.seconds,
        batch_seconds=trainer.batch_seconds,
        group=share.world * trainer.accumulate,
        buckets=data.buckets,
        shortest=data.min_seconds,
        longest=data.max_seconds if data.crop_seconds is None else math.inf,
        crop_seconds=examples.crop_seconds,
        slowest=1.0 if examples.augmenter is None else examples.augmenter.slowest,
        seed=trainer.seed,
        sorted_epochs=data.sorted_epochs,
    )
    return Batches(examples, plan, share, workers=trainer.workers)


def validation_batches(start: Start, share: Share = ALONE) -> Batches:
    """The batches that a run is evaluated on, each utterance once, nothing left out or augmented; see `once`.

    Raises as `training_batches`.
    """
    data, trainer = start.recipe.data, start.recipe.trainer
    examples = Examples(start, Corpus.open(*data.valid), is_training=False)
    plan = BatchPlan(
        examples.corpus.seconds,
        batch_seconds=trainer.batch_seconds,
        group=share.world,
        buckets=data.buckets,
        crop_seconds=examples.crop_seconds,
        seed=None,
    )
    return Batches(examples, plan, share, workers=trainer.workers)


def _end_workers(loading: Any) -> None:
    """Ends the workers of a DataLoader's iterator, which by itself does so when nothing refers to it any more."""
    end = getattr(loading, "_shutdown_workers", None)  # without workers there is none
    if end is not None:
        end()


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and SIGTERM reach all processes; workers go on, so that the parent can finish its step and save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
