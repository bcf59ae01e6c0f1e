"""`wavconformer demo`, `info`, `check`, `convert` and `export`: what a checkpoint is, and what can be made of it."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from wavconformer.cli.app import app
from wavconformer.cli.options import Model, Quantization
from wavconformer.cli.terminal import err, status


class Graph(str, Enum):
    """Kinds of graph that can be written."""

    onnx = "onnx"


@app.command()
def demo() -> None:
    """Transcribe the sample recordings that ship with the package, by the model and the language model beside them."""
    from wavconformer.files import samples
    from wavconformer.tasks.transcribe import load_model

    transcriber = load_model()
    for path in samples():
        typer.echo(f"{path.name:14} {transcriber(path).text}")


@app.command()
def info(model: Model) -> None:
    """Show what a checkpoint is: its shape, parameters, size and labels. The weights aren't loaded."""
    from wavconformer.tasks.info import model_info

    for name, value in model_info(model).rows():
        typer.echo(f"{name:18} {value}")


@app.command()
def check(
    model: Model,
    audio: Annotated[str | None, typer.Option(help="A recording to run, in place of noise.")] = None,
    text: Annotated[str | None, typer.Option(help="What is said in it.")] = None,
) -> None:
    """Prove that a checkpoint is whole and runs right: alone, padded, and beside transformers if that is installed."""
    from wavconformer.tasks.check import check as findings

    if text is not None and audio is None:
        raise typer.BadParameter("--text needs the --audio that it is said in.")
    passed = True
    for finding in findings(model, audio, text):
        sign = {True: "[green]ok[/green]    ", False: "[red]FAILED[/red]", None: "[yellow]-[/yellow]     "}[
            finding.passed
        ]
        Console(soft_wrap=True, highlight=False).print(f"{sign} {finding.name:15} {escape(finding.detail)}")
        passed = passed and finding.passed is not False
    if not passed:
        raise typer.Exit(1)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A fairseq wav2vec2-conformer checkpoint (.pt).")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    dictionary: Annotated[
        Path | None, typer.Option("--dict", help="Its dict.ltr.txt; by default the one beside it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A fairseq setting that stands over the file's own, as layer_norm_first=true; may be repeated.",
        ),
    ] = None,
) -> None:
    """Turn a fairseq checkpoint into a folder that wavconformer and transformers read; fairseq isn't needed."""
    given = _settings(settings or [])
    from wavconformer.tasks.convert import convert_fairseq

    made = convert_fairseq(checkpoint, output, dictionary, given)
    typer.echo(f"{made.architecture} written to {made.folder}")
    if made.left_over:
        err.print(f"[yellow]Without a place in it: {escape(', '.join(made.left_over))}[/yellow]")
    if made.lost_settings:
        err.print(f"[yellow]Without a word in its config.json: {escape(', '.join(made.lost_settings))}[/yellow]")


@app.command()
def export(
    model: Model,
    to: Annotated[Graph, typer.Option(help="Kind of graph.")] = Graph.onnx,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; by default MODEL's name with -onnx.")
    ] = None,
    quantization: Annotated[Quantization | None, typer.Option(help="int8: matrix products of 8 bits.")] = None,
) -> None:
    """Write a checkpoint as a graph for ONNX Runtime, proven equal to PyTorch, with its processor beside it."""
    from wavconformer.tasks.export import export as write

    folder = Path(f"{Path(model).name}-{to.value}") if output is None else output
    with status(f"exporting {model}"):
        made = write(model, folder, to=to.value, quantization=None if quantization is None else quantization.value)
    measure = "differs from PyTorch by" if quantization is None else "differs from full precision (root mean square) by"
    typer.echo(f"{made.folder}: {made.output}, {made.megabytes:.1f} MiB, {measure} {made.difference:.1e}")


def _settings(options: list[str]) -> dict[str, Any]:
    """Settings given as name=value: a value is read as JSON where it is that, and else is text."""
    settings = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not name or not sign:
            raise typer.BadParameter(f"--set '{option}' is not NAME=VALUE.")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings
