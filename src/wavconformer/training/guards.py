"""What stops a run that goes wrong, and says what to change."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from wavconformer.errors import DataError, TrainingError
from wavconformer.training.examples import Skipped
from wavconformer.training.recipe import Pretraining


@dataclass
class NonFinite:
    """Counts updates in a row whose loss or gradient isn't finite. limit: how many stop the run."""

    limit: int
    in_a_row: int = 0
    total: int = 0

    def passed(self) -> None:
        """An update went well."""
        self.in_a_row = 0

    def failed(self, step: int, ids: Iterable[str], kept: str) -> None:
        """An update was left out; TrainingError when there were too many in a row. kept: the last good checkpoint."""
        self.in_a_row += 1
        self.total += 1
        if self.in_a_row >= self.limit:
            names = list(ids)
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise TrainingError(
                f"Update {step}: the loss or its gradient wasn't finite {self.in_a_row} times in a row, the last time "
                f"with the utterances {shown}. {kept} Lower optim.lr or trainer.clip_norm, lengthen schedule.warmup, "
                "use trainer.precision=float32, or look at these recordings (metrics.jsonl lists all of them)."
            )


@dataclass
class SkippedShare:
    """Counts utterances that their batches had to do without.

    most: the share of an epoch's utterances that may be. epoch: how many an epoch has.
    """

    most: float
    epoch: int
    seen: int = 0
    skipped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def count(self, utterances: int, skipped: int) -> None:
        """Counts those of one update, over all processes.

        More than the share of what was seen so far, or of a whole epoch if less was seen, is a DataError.
        """
        self.seen += utterances + skipped
        self.skipped += skipped
        if self.skipped > self.most * max(self.seen, self.epoch):
            told = "; ".join(reason.rstrip(".") for reason, _ in self.reasons.most_common(3))
            raise DataError(
                f"{self.skipped} of {self.seen} utterances had to be skipped, and trainer.max_skipped allows "
                f"{self.most:.1%} of the {self.epoch} in an epoch. {told + '. ' if told else ''}skipped.jsonl in the "
                "run's folder lists them. `wavconformer prepare --vocabulary …` sorts out bad recordings and texts."
            )

    def note(self, skipped: Iterable[Skipped]) -> None:
        """Remembers reasons, to tell of them."""
        for one in skipped:
            self.reasons[f"{one.id}: {one.reason}"] += 1


def check_collapse(settings: Pretraining, step: int, perplexity: float, accuracy: float, negatives: int) -> None:
    """Raises TrainingError where pretraining has collapsed.

    perplexity: of the codebooks, summed over groups. accuracy: share of masked frames told from their distractors.
    negatives: how many distractors each has.
    """
    if step < settings.watch_after:
        return
    chance = 1 / (negatives + 1)
    if not perplexity >= settings.least_perplexity:
        raise TrainingError(
            f"Update {step}: the codebooks have collapsed, their perplexity is {perplexity:.2f} and "
            f"trainer.pretraining.least_perplexity {settings.least_perplexity:g}. Raise diversity_loss_weight in "
            "model.config, start from a higher trainer.pretraining.temperature or let it fall more slowly, lower "
            "optim.lr, or start again from an earlier checkpoint."
        )
    if not accuracy >= settings.least_accuracy * chance:
        raise TrainingError(
            f"Update {step}: the model tells {accuracy:.2%} of the masked frames from their distractors, and chance "
            f"would be {chance:.2%}: nothing is learned any more, or yet (trainer.pretraining.least_accuracy is "
            f"{settings.least_accuracy:g} times chance). Lower optim.lr, lengthen schedule.warmup, raise "
            "trainer.pretraining.feature_penalty or batch_seconds; if it only needs more time, raise "
            "trainer.pretraining.watch_after."
        )


class StopSignal:
    """Remembers Ctrl-C and SIGTERM, so that the update in hand is finished and saved. name: the signal that came."""

    def __init__(self) -> None:
        self.name: str | None = None

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:  # asked a second time: at once
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Within the block Ctrl-C and SIGTERM only leave their mark; a second Ctrl-C interrupts at once."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {}
    for caught in (signal.SIGINT, signal.SIGTERM):
        before[caught] = signal.signal(caught, stop._came)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
