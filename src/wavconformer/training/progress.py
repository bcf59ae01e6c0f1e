"""How a run is watched: a bar where somebody looks on, lines where output goes to a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape


class View(Protocol):
    """Who is told how a run goes."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """An update was made; its latest measures."""

    def say(self, text: str) -> None:
        """Something to read."""


class Silent:
    """Tells nobody."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class _Lines:
    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._told: Mapping[str, float] = {}

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if metrics is not self._told and metrics:
            self._told = metrics
            self._console.print(f"{step}/{self._steps}  {_shown(metrics)}", highlight=False)

    def say(self, text: str) -> None:
        self._console.print(escape(text), highlight=False)


class _Bar:
    def __init__(self, console: Console, progress: Any, task: Any) -> None:
        self._console = console
        self._progress = progress
        self._task = task

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._progress.update(self._task, completed=step, shown=_shown(metrics))

    def say(self, text: str) -> None:
        self._console.print(escape(text), highlight=False)


@contextmanager
def watching(console: Console, steps: int, step: int) -> Iterator[View]:
    """A view of a run of so many updates that begins at `step`, on a console."""
    if not console.is_terminal:
        yield _Lines(console, steps)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    with Progress(*columns, console=console, redirect_stdout=False, speed_estimate_period=300) as progress:
        yield _Bar(console, progress, progress.add_task("training", total=steps, completed=step, shown=""))


def _shown(metrics: Mapping[str, float]) -> str:
    names = ("loss", "contrastive", "accuracy", "perplexity", "lr", "grad_norm")
    parts = [f"{name} {metrics[name]:.3g}" for name in names if name in metrics]
    if "audio_seconds_per_second" in metrics:
        parts.append(f"{metrics['audio_seconds_per_second']:.0f} s/s")
    return "  ".join(parts)
