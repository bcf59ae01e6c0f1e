"""An evaluation in a terminal: how it goes, and its tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import isfinite
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wavconformer.evaluation.evaluate import Evaluation, Watch
from wavconformer.evaluation.run import Failure
from wavconformer.scoring.classes import ClassScores
from wavconformer.scoring.diarization import PARTS, DiarizationScores
from wavconformer.scoring.intervals import Interval
from wavconformer.scoring.verification import VerificationScores
from wavconformer.scoring.words import WordScores

_MOST_ROWS = 20
_WORST = 3  # utterances that are shown aligned


@contextmanager
def watching(console: Console) -> Iterator[Watch]:
    """Shows on `console` how it goes: a bar where somebody watches, and what fails in any case."""
    with ExitStack() as stack:
        bars: list[tuple[Progress, Any]] = []

        def start(doing: str, total: int) -> None:
            if not console.is_terminal:
                return
            if not bars:
                columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                progress = Progress(*columns, console=console, transient=True, redirect_stdout=False)
                bars.append((stack.enter_context(progress), progress.add_task(doing, total=total or None)))
            progress, task = bars[0]
            progress.update(task, description=escape(doing), total=total or None)

        def step() -> None:
            for progress, task in bars:
                progress.advance(task)

        def failed(failure: Failure) -> None:
            console.print(f"[red]{escape(failure.why)}[/red]")

        yield Watch(start, step, failed)


def tables(evaluation: Evaluation, width: int = 80) -> Iterator[Table | Text]:
    """What to print of an evaluation, one thing after another. width: columns that alignments are broken at."""
    scores = evaluation.scores
    if isinstance(scores, WordScores):
        yield from _words(evaluation, scores, width)
    elif isinstance(scores, ClassScores):
        yield from _classes(scores)
    elif isinstance(scores, VerificationScores):
        yield _verification(scores)
    else:
        yield _diarization(scores)


def _words(evaluation: Evaluation, scores: WordScores, width: int) -> Iterator[Table | Text]:
    named = evaluation.by if scores.groups else ""
    table = _table(named, "utterances", "words", "WER %", "95 % interval", "CER %")
    for group in scores.groups[:_MOST_ROWS]:
        table.add_row(
            escape(group.name),
            f"{group.utterances:,}",
            f"{group.wer.length:,}",
            _percent(group.wer.value),
            _interval(group.wer.interval),
            _percent(group.cer.value),
        )
    if len(scores.groups) > _MOST_ROWS:
        table.add_row(f"… {len(scores.groups) - _MOST_ROWS} more")
    table.add_section()
    table.add_row(
        "all",
        f"{len(scores.pairs):,}",
        f"{scores.wer.length:,}",
        _percent(scores.wer.value),
        _interval(scores.wer.interval),
        _percent(scores.cer.value),
        style="bold",
    )
    yield table
    wer = scores.wer
    yield Text(
        f"CER 95 % interval {_interval(scores.cer.interval)}; words: {wer.substitutions:,} substituted, "
        f"{wer.deletions:,} deleted, {wer.insertions:,} inserted; compared: {scores.normalisation.description}"
    )
    if evaluation.decoding is not None:
        yield Text(f"decoding: {evaluation.decoding}")
    for pair in scores.worst(_WORST):
        lines = [f"  {line}" for block in pair.aligned(width - 2) for line in block]
        yield Text("\n".join(["", pair.id, *lines]), no_wrap=True, overflow="ignore")


def _classes(scores: ClassScores) -> Iterator[Table | Text]:
    yield Text(
        f"accuracy {_percent(scores.accuracy)} % (95 % interval {_interval(scores.interval)}) of {scores.count:,} "
        f"utterances; balanced {_percent(scores.balanced_accuracy)} %"
    )
    table = _table("class", "are so", "called so", "precision %", "recall %", "F1 %", "mostly taken for")
    for number, one in enumerate(scores.classes):
        others = scores.confusion[number].copy()
        others[number] = 0
        mistaken = f"{scores.names[int(others.argmax())]} ({int(others.max())})" if others.any() else ""
        shares = ("–" if share is None else _percent(share) for share in (one.precision, one.recall, one.f1))
        table.add_row(escape(one.name), f"{one.count:,}", f"{one.called:,}", *shares, escape(mistaken))
    yield table


def _verification(scores: VerificationScores) -> Table:
    table = _table("", "value", "at the score")
    table.add_row("EER %", _percent(scores.eer), f"{scores.eer_threshold:.4f}")
    for cost in scores.costs:
        threshold = f"{cost.threshold:.4f}" if isfinite(cost.threshold) else "none accepted"
        table.add_row(f"minDCF, p(target) {cost.p_target:g}", f"{cost.value:.4f}", threshold)
    table.caption = f"{scores.targets:,} targets, {scores.nontargets:,} nontargets"
    return table


def _diarization(scores: DiarizationScores) -> Table:
    table = _table("recording", "speech s", "DER %", "missed %", "false alarm %", "confusion %")
    for one in (*scores.recordings[:_MOST_ROWS], scores.total):
        if one is scores.total:
            table.add_section()
        table.add_row(escape(one.name), f"{one.speech:,.1f}", *map(_percent, (one.rate, *map(one.share, PARTS))))
    overlap = ", overlapped speech left out" if scores.skip_overlap else ""
    table.caption = f"collar {scores.collar:g} s on either side{overlap}"
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left")
    table.add_column(escape(first), overflow="fold")
    for title in others:
        table.add_column(title, justify="right")
    return table


def _percent(value: float) -> str:
    return f"{100 * value:.2f}" if isfinite(value) else "–"


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{100 * interval.low:.2f} – {100 * interval.high:.2f}"
