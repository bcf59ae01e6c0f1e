"""What the command line says on standard error: progress where somebody watches, warnings, complaints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

err = Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def counted(verb: str) -> Iterator[Callable[[int, int], None]]:
    """As `progress_bar`, for who tells how many are done, and of how many."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    with _bar() as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class Unwatched:
    """Progress that nobody sees."""

    def advance(self) -> None:
        """One more recording is done."""

    def within(self, number: int, seconds: float) -> None:
        """So many seconds of a long recording, whose number is told, have been heard."""


class _Bar(Unwatched):
    def __init__(self, bar: Progress, task: TaskID, verb: str, files: list[str]) -> None:
        self._bar, self._task, self._verb, self._files = bar, task, verb, files

    def advance(self) -> None:
        self._bar.update(self._task, advance=1, description=self._verb)

    def within(self, number: int, seconds: float) -> None:
        minutes, second = divmod(round(seconds), 60)
        name = escape(Path(self._files[number]).name)
        self._bar.update(self._task, description=f"{self._verb} {name} at {minutes}:{second:02}")


@contextmanager
def progress_bar(files: list[str], verb: str) -> Iterator[Unwatched]:
    """A bar on standard error, where somebody watches."""
    if not err.is_terminal:
        yield Unwatched()
        return
    with _bar() as bar:
        yield _Bar(bar, bar.add_task(verb, total=len(files)), verb, files)


def _bar() -> Progress:
    """A bar on standard error, behind what is being done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, redirect_stdout=False)


@contextmanager
def heard(verb: str) -> Iterator[Callable[[float], None]]:
    """A spinner with the minutes of audio that are done, where somebody watches."""
    if not err.is_terminal:
        yield lambda seconds: None
        return
    with err.status(verb) as shown:
        yield lambda seconds: shown.update(f"{verb} {int(seconds) // 60}:{int(seconds) % 60:02}")


def status(doing: str) -> AbstractContextManager[Any]:
    """A spinner on standard error, where somebody watches."""
    return err.status(doing) if err.is_terminal else nullcontext()


def complain(error: BaseException) -> None:
    """An error, on one line."""
    err.print(f"[red]{escape(' '.join(str(error).split()) or type(error).__name__)}[/red]")


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning, on one line; takes the arguments of `warnings.showwarning`."""
    err.print(f"[yellow]{escape(' '.join(str(message).split()))}[/yellow]")
