"""The updates since the last line of metrics, and what they measured on average."""

from __future__ import annotations

from collections.abc import Mapping

from wavconformer.training.learner import Learned
from wavconformer.training.objectives import Objective


class Window:
    """What happened since the last line of metrics. shown: that line's measures."""

    def __init__(self) -> None:
        self.shown: dict[str, float] = {}
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._norm = 0.0
        self._updates = 0
        self._extra: dict[str, float] = {}
        self._audio = self._time = 0.0

    def add_time(self, audio: float, seconds: float) -> None:
        """Counts sound that was processed, and how long that took: seconds."""
        self._audio += audio
        self._time += seconds

    def add(self, learned: Learned, counts: Mapping[str, float], extra: Mapping[str, float]) -> None:
        """Takes in an update. counts: what its sums are divided by. extra: values to show as they are."""
        for target, values in ((self._sums, learned.sums), (self._counts, counts)):
            for name, value in values.items():
                target[name] = target.get(name, 0.0) + value
        self._norm += learned.norm
        self._updates += 1
        self._extra = {"lr": learned.lr, **extra}

    def close(self, objective: Objective) -> dict[str, float]:
        """The means over the window, which begins anew; empty where no update was made."""
        if not self._updates:
            return {}
        weights = objective.weights
        terms = {
            term: self._sums[term] / max(self._counts[divisor], 1.0) for term, divisor in objective.divisors.items()
        }
        metrics = {"loss": sum(weights[term] * value for term, value in terms.items())}
        if len(terms) > 1:
            metrics |= terms
        if "right" in self._sums:
            metrics["accuracy"] = self._sums["right"] / max(self._counts["masked"], 1.0)
            metrics["perplexity"] = self._sums["perplexity"] / self._updates
        metrics |= {"grad_norm": self._norm / self._updates, **self._extra}
        metrics["audio_seconds_per_second"] = self._audio / max(self._time, 1e-9)
        self._clear()
        self.shown = metrics
        return metrics
