"""`wavconformer evaluate`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wavconformer.cli.app import app
from wavconformer.cli.options import (
    ALPHA,
    BEAM,
    BETA,
    DEVICE,
    HOTWORD,
    LM,
    THREADS,
    search_of,
    use_threads,
)
from wavconformer.cli.terminal import err, warn


class Normalise(str, Enum):
    """What is made of texts before `evaluate` compares them."""

    none = "none"
    case = "case"
    punctuation = "punctuation"
    standard = "standard"


@app.command()
def evaluate(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Folder, Hub repository, or 'tiny-en', to run on the data.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Manifest (.jsonl, .csv, .tsv), folder in LibriSpeech's layout, or librispeech:test-clean."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that the data is in.")] = None,
    hypotheses: Annotated[Path | None, typer.Option(help="Score this file in place of a model's output.")] = None,
    trials: Annotated[Path | None, typer.Option(help="Trial list, '1 a b' or 'a b target', for speakers.")] = None,
    rttm: Annotated[Path | None, typer.Option(help="RTTM file of the true turns, for who speaks when.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, report.html and what the model gave; a rerun goes on from there."),
    ] = None,
    normalise: Annotated[
        Normalise, typer.Option(help="Before texts are compared: lower case, no punctuation, both (standard) or none.")
    ] = Normalise.standard,
    by: Annotated[str, typer.Option(help="Column of the manifest to break word errors down by.")] = "speaker",
    worst: Annotated[int, typer.Option(min=0, help="Utterances to show in the report, the worst ones.")] = 20,
    p_target: Annotated[
        list[float] | None,
        typer.Option(help="Prior of a target, for minDCF; may be repeated; 0.01 and 0.05 by default."),
    ] = None,
    collar: Annotated[float, typer.Option(min=0, help="Seconds around each true boundary that don't count.")] = 0.0,
    skip_overlap: Annotated[bool, typer.Option("--skip-overlap", help="Leave overlapped speech out.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many alone.")] = None,
    batch_seconds: Annotated[float, typer.Option(min=0.1, help="Audio in a batch.")] = 30.0,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights, such as float16; float32 by default.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language, of a model with adapters for several.")] = None,
    lm: Annotated[str | None, LM] = None,
    alpha: Annotated[float | None, ALPHA] = None,
    beta: Annotated[float | None, BETA] = None,
    beam: Annotated[int | None, BEAM] = None,
    hotword: Annotated[list[str] | None, HOTWORD] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Score a checkpoint, or hypotheses, on a data set: WER and CER, accuracy, EER and minDCF, or DER.

    What is scored follows from the checkpoint's class. A recording that can't be read is reported and the others go
    on; the exit code is then 1. With --output a run that was stopped goes on where it was.
    """
    if (model is None) == (hypotheses is None):
        raise typer.BadParameter("give --model or --hypotheses, one of the two.")
    if data is None and trials is None and rttm is None:
        raise typer.BadParameter("give --data (or --trials, or --rttm).")
    search = search_of(lm, alpha, beta, beam, hotword)
    use_threads(threads)
    from wavconformer.evaluation.evaluate import evaluate as scored
    from wavconformer.evaluation.terminal import tables, watching

    try:
        with watching(err) as watch:
            evaluation = scored(
                model,
                data,
                root=root,
                hypotheses=hypotheses,
                trials=trials,
                rttm=rttm,
                output=output,
                normalise=normalise.value,
                by=by,
                p_targets=p_target or None,
                collar=collar,
                skip_overlap=skip_overlap,
                limit=limit,
                batch_seconds=batch_seconds,
                device=device,
                dtype=dtype,
                target_lang=target_lang,
                search=search,
                watch=watch,
            )
    except KeyboardInterrupt:
        if output is not None:
            err.print(f"[yellow]Stopped. The same command goes on from what is in '{escape(str(output))}'.[/yellow]")
        raise
    written = [] if output is None else evaluation.save(output, worst=worst)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for table in tables(evaluation, out.width):
        out.print(table)
    for path in written:
        err.print(f"written: {escape(str(path))}")
    if evaluation.unused:
        warn(f"{len(evaluation.unused)} hypotheses for nothing in the data, the first for '{evaluation.unused[0]}'.")
    if evaluation.failures:
        err.print(f"[red]{len(evaluation.failures)} could not be scored.[/red]")
        raise typer.Exit(1)
