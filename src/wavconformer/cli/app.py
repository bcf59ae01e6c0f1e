"""The command line's root: options before the command, and what is made of errors."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from wavconformer import __version__
from wavconformer.cli.terminal import complain, warn
from wavconformer.errors import WavConformerError

app = typer.Typer(
    name="wavconformer",
    help="Wav2Vec2-Conformer speech models: transcribe recordings, look at checkpoints, convert them, train.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What a command may raise on account of its input; anything else is a bug of ours and shows its traceback.
INPUT_ERRORS = (WavConformerError, OSError, ValueError)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"wavconformer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = {"debug": debug}


def main() -> None:
    """Runs the command line: exit code 0, 1 where the input is at fault, 2 for wrong usage.

    Where whoever read the output has gone, as `head` does, typer ends it without a word.
    """
    warnings.showwarning = warn
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # our own message says what the Hub didn't give
    debug = "--debug" in sys.argv
    try:
        app()
    except INPUT_ERRORS as error:
        if debug:
            raise
        complain(error)
        sys.exit(1)
