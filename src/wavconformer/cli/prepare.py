"""`wavconformer prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavconformer.cli.app import app
from wavconformer.cli.options import Case
from wavconformer.cli.terminal import counted, err


@app.command()
def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder in LibriSpeech layout, Kaldi folder, CSV, TSV or JSONL, lhotse manifest or Shar, Hugging Face "
            "dataset on disk or as parquet.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="build|MODEL",
            help="'build' makes a vocabulary of the texts' characters; a vocab.json, folder or Hub repository is one "
            "that texts are checked against.",
        ),
    ] = None,
    case: Annotated[Case, typer.Option(help="Change the letters of texts.")] = Case.KEEP,
    split: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1, help="Part longer recordings without text into equal stretches, for pretraining."
        ),
    ] = None,
    pack: Annotated[
        bool, typer.Option("--pack", help="Copy recordings into shards, in place of millions of small files.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; by default one for each core, 0 for this one alone.")
    ] = None,
) -> None:
    """Make a corpus ready to train on: examine every recording and text, write a manifest and a report.

    What can't be used is refused with its reason. A run that was interrupted goes on where it stopped.
    """
    from wavconformer.data.prepare import prepare as prepared

    try:
        with counted("examining") as progress:
            report = prepared(
                source,
                output,
                vocabulary=vocabulary,
                case=case.value,
                split=split,
                pack=pack,
                workers=workers,
                progress=progress,
            )
    except KeyboardInterrupt:
        err.print("[yellow]Interrupted. The same command goes on where it stopped.[/yellow]")
        raise typer.Exit(130) from None
    typer.echo(str(report))
