"""What kind of sound a recording is: scores by label, for all of it and along its time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.config import Wav2Vec2ConformerConfig

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def problem_of(config: Wav2Vec2ConformerConfig) -> str:
    """What a sequence head answers, by the Hugging Face names: `problem_type`, and without it numbers for one output
    and one of several labels for more.
    """
    return config.problem_type or (REGRESSION if config.num_labels == 1 else SINGLE)


@dataclass(frozen=True)
class Score:
    """A label with its probability, or, of a regression head, an output's name with its value."""

    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.label} {self.score:.3f}"


@dataclass(frozen=True)
class Span:
    """A stretch of a recording that has a label. start, end: seconds. score: mean of its windows' probabilities."""

    label: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class WindowScores:
    """What one window was heard as. start, end: seconds of the window."""

    start: float
    end: float
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Classification:
    """What a recording was heard as.

    scores: the best labels with their probabilities, best first; of a regression head all values, in their order. Over
        several windows they are the mean.
    labels: the best label; of a head with several labels at once those whose probability reaches the threshold, none
        or more; of a regression head none.
    duration: seconds of audio. problem: "single_label_classification", "multi_label_classification" or "regression".
    spans: neighbouring windows of one label as one, in order; each window counts from half-way between its middle and
        that of the window before. Spans of several labels at once may overlap. None where there is one window alone,
        nor for regression.
    windows: what each window was heard as. problems: what of the recording could not be heard, such as its end.
    """

    scores: tuple[Score, ...]
    labels: tuple[str, ...]
    duration: float
    problem: str
    spans: tuple[Span, ...] = ()
    windows: tuple[WindowScores, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """The best of its labels, if it has one."""
        return self.labels[0] if self.labels else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the time line where there are several windows."""
        plain: dict[str, Any] = {
            "labels": list(self.labels),
            "scores": [asdict(one) for one in self.scores],
            "duration": self.duration,
            "problem": self.problem,
        }
        if len(self.windows) > 1:
            plain["spans"] = [asdict(one) for one in self.spans]
            plain["windows"] = [asdict(one) for one in self.windows]
        if self.problems:
            plain["problems"] = list(self.problems)
        return plain

    def __str__(self) -> str:
        return ", ".join(map(str, self.scores))


@dataclass(frozen=True)
class Verdict:
    """How the outputs of a head become an answer.

    problem: what the head answers. names: of its outputs. top: so many labels are told; None for all. threshold:
    probability from which on a label holds, where several may.
    """

    problem: str
    names: tuple[str, ...]
    top: int | None = 3
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise ValueError(f"top is {self.top}, but must be 1 or more, or None for all labels.")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}, but must lie between 0 and 1.")

    def __call__(
        self,
        logits: Sequence[NDArray[np.float32]],
        times: Sequence[tuple[float, float]],
        duration: float,
        problems: Iterable[str] = (),
    ) -> Classification:
        """The answer for a recording of so many seconds, from the outputs (L,) of its windows, at least one, and each
        window's start and end.
        """
        values = self._values(np.stack(logits).astype(np.float64))
        mean = values.mean(0)
        several = len(times) > 1
        return Classification(
            scores=self._scores(mean),
            labels=tuple(self.names[number] for number in self._holding(mean)),
            duration=duration,
            problem=self.problem,
            spans=tuple(self._spans(values, times, duration)) if several and self.problem != REGRESSION else (),
            windows=tuple(
                WindowScores(round(start, 4), round(end, 4), self._scores(row))
                for row, (start, end) in zip(values, times, strict=True)
            ),
            problems=tuple(problems),
        )

    def _values(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """(W, L): probabilities, or the outputs themselves."""
        if self.problem == REGRESSION:
            return logits
        if self.problem == MULTI:
            values: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))
            return values
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        values = shares / shares.sum(-1, keepdims=True)
        return values

    def _scores(self, values: NDArray[np.float64]) -> tuple[Score, ...]:
        order = range(len(values)) if self.problem == REGRESSION else _best(values)[: self.top]
        return tuple(Score(self.names[number], round(float(values[number]), 6)) for number in order)

    def _holding(self, values: NDArray[np.float64]) -> list[int]:
        """Numbers of the labels that hold, best first."""
        if self.problem == REGRESSION:
            return []
        order = _best(values)
        return order[:1] if self.problem == SINGLE else [one for one in order if values[one] >= self.threshold]

    def _spans(self, values: NDArray[np.float64], times: Sequence[tuple[float, float]], duration: float) -> list[Span]:
        middles = [(start + end) / 2 for start, end in times]
        edges = [0.0, *(sum(pair) / 2 for pair in pairwise(middles)), duration]
        open_: dict[int, int] = {}  # label and the window with which it began
        spans = []
        for number in range(len(values) + 1):
            holding = self._holding(values[number]) if number < len(values) else []
            for label in [label for label in open_ if label not in holding]:
                first = open_.pop(label)
                score = round(float(values[first:number, label].mean()), 6)
                spans.append(Span(self.names[label], round(edges[first], 4), round(edges[number], 4), score))
            for label in holding:
                open_.setdefault(label, number)
        return sorted(spans, key=lambda span: (span.start, -span.score))


def _best(values: NDArray[np.float64]) -> list[int]:
    """Numbers of the values, the largest first."""
    order: list[int] = np.argsort(-values, kind="stable").tolist()
    return order
