"""`wavconformer classify`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from wavconformer.cli.app import app
from wavconformer.cli.options import (
    BATCH_SECONDS,
    DEVICE,
    ENGINE,
    OUTPUT,
    QUANTIZATION,
    RESUME,
    THREADS,
    Engine,
    Quantization,
)
from wavconformer.cli.outputs import output_files
from wavconformer.cli.terminal import Unwatched, complain, err, progress_bar, status


class ClassFormat(str, Enum):
    """Of what `classify` says."""

    txt = "txt"
    json = "json"
    tsv = "tsv"


@app.command()
def classify(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings in any common format.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub repository; by default the keyword model that ships along.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="So many labels are told, the best first.")] = 3,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Models with several labels at once: probability that counts as yes.")
    ] = 0.5,
    format: Annotated[
        ClassFormat,
        typer.Option(
            help="Text with the time line; all as json; a row for each window and label.", case_sensitive=False
        ),
    ] = ClassFormat.txt,
    output: Annotated[Path | None, OUTPUT] = None,
    resume: Annotated[bool, RESUME] = False,
    window_seconds: Annotated[
        float | None,
        typer.Option(min=0.01, help="Long recordings: length of a window; by default what the model was trained on."),
    ] = None,
    hop_seconds: Annotated[
        float | None, typer.Option(min=0.001, help="From one window's start to the next; by default half a window.")
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    quantization: Annotated[Quantization | None, QUANTIZATION] = None,
    engine: Annotated[Engine | None, ENGINE] = None,
    batch_seconds: Annotated[float | None, BATCH_SECONDS] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Tell what kind of sound recordings are: keywords, languages, emotions, whatever the model was trained for.

    One recording gives its best labels with their probabilities; of several each line begins with a file name and a
    tab. Longer recordings are heard window by window, and have a time line. A recording that can't be read is reported
    and the others go on; the exit code is then 1.
    """
    files, targets = output_files(files, output, format.value, resume=resume)
    if not files:
        return
    from wavconformer.decoding.classification import Classification
    from wavconformer.files import write_text
    from wavconformer.tasks.classify import load_classifier
    from wavconformer.writers.classes import TSV_HEADING, render_classes

    with status(f"loading {model or 'the shipped model'}"):
        classifier = load_classifier(
            model,
            device=device,
            quantization=None if quantization is None else quantization.value,
            engine=None if engine is None else engine.value,
            threads=threads,
        )
    failed = 0
    watched = targets is not None or not sys.stdout.isatty()
    with progress_bar(files, "classifying") if watched else nullcontext(Unwatched()) as progress:
        results = classifier.many(
            files,
            top=top,
            threshold=threshold,
            window_seconds=window_seconds,
            hop_seconds=hop_seconds,
            batch_seconds=batch_seconds,
            on_error="raise" if context.obj["debug"] else "return",
            on_progress=progress.within,
        )
        if targets is None and format is ClassFormat.tsv:
            typer.echo(TSV_HEADING, nl=False)
        for number, (file, result) in enumerate(zip(files, results, strict=True)):
            if not isinstance(result, Classification):
                failed += 1
                complain(result)
            elif targets is None:
                is_alone = len(files) == 1 and format is ClassFormat.txt
                text = render_classes(result, format.value, name=None if is_alone else file, heading=False)
                typer.echo(text, nl=False)
            else:
                write_text(targets[number], render_classes(result, format.value, name=file))
            progress.advance()
    if failed:
        if len(files) > 1:
            err.print(f"[red]{failed} of {len(files)} recordings could not be classified.[/red]")
        raise typer.Exit(1)
