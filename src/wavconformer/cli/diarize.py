"""`wavconformer diarize`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavconformer.cli.app import INPUT_ERRORS, app
from wavconformer.cli.options import BATCH_SECONDS, DEVICE, MODEL, RESUME, THREADS
from wavconformer.cli.outputs import output_files
from wavconformer.cli.terminal import Unwatched, complain, err, progress_bar, status, warn

if TYPE_CHECKING:
    from wavconformer.tasks.diarize import Diarizer


class TurnFormat(str, Enum):
    """Of who speaks when."""

    txt = "txt"
    json = "json"
    rttm = "rttm"
    html = "html"


SPEAKERS = typer.Option(min=1, help="How many people speak, where that is known.")
LEAST = typer.Option("--min", min=1, help="The fewest people that may be found.")
MOST = typer.Option("--max", min=1, help="The most people that may be found.")
SPEAKER_MODEL = typer.Option(help="Model that tells voices apart; by default the one that ships along.")


@app.command()
def diarize(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings in any common format.")],
    model: Annotated[str | None, MODEL] = None,
    speaker_model: Annotated[str | None, SPEAKER_MODEL] = None,
    speakers: Annotated[int | None, SPEAKERS] = None,
    least: Annotated[int | None, LEAST] = None,
    most: Annotated[int | None, MOST] = None,
    format: Annotated[
        TurnFormat,
        typer.Option(help="Lines of start, end, speaker; json; RTTM; a page to look at and listen to."),
    ] = TurnFormat.txt,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page too, of one recording.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write a file for each recording to, instead of printing.")
    ] = None,
    resume: Annotated[bool, RESUME] = False,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Cosine distance from which on voices are those of different people; 0.65."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Store of known voices: people keep their names across files.")
    ] = None,
    enroll: Annotated[
        bool, typer.Option("--enroll/--no-enroll", help="Add voices that the --store doesn't know, with a new name.")
    ] = True,
    store_threshold: Annotated[
        float | None, typer.Option(help="Score from which on a voice is known; by default the model's calibration.")
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    batch_seconds: Annotated[float | None, BATCH_SECONDS] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Find who speaks when in recordings of any length.

    A recording that can't be read is reported and the others go on; the exit code is then 1.
    """
    if speakers is not None and not (least is None and most is None):
        raise typer.BadParameter("--speakers is the exact number: leave --min and --max out.")
    if least is not None and most is not None and least > most:
        raise typer.BadParameter(f"--min {least} is more than --max {most}.")
    if html is not None and len(files) > 1:
        raise typer.BadParameter("--html is of one recording: give an --output folder and --format html for several.")
    if html is not None and html.is_dir():
        raise typer.BadParameter(f"--html '{html}' is a folder; give a file.")
    if store is None and store_threshold is not None:
        raise typer.BadParameter("--store-threshold goes with --store.")
    if len(files) > 1 and output is None and format not in (TurnFormat.json, TurnFormat.rttm):
        raise typer.BadParameter(f"several recordings don't make one {format.value}: give an --output folder.")
    files, targets = output_files(files, output, format.value, resume=resume)
    if not files:
        return
    from wavconformer.files import write_text
    from wavconformer.writers.turns import render_diarization

    diarizer = loaded_diarizer(model, speaker_model, device, threads)
    voices = None
    if store is not None:
        from wavconformer.tasks.speakers import SpeakerStore

        voices = SpeakerStore(store, model=diarizer.embedder)
    settings: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    failed = 0
    watched = targets is not None or not sys.stdout.isatty()
    with progress_bar(files, "listening to") if watched else nullcontext(Unwatched()) as progress:
        for number, file in enumerate(files):
            try:
                found = diarizer(
                    file,
                    speakers=speakers,
                    min_speakers=least,
                    max_speakers=most,
                    store=voices,
                    enroll=enroll,
                    store_threshold=store_threshold,
                    batch_seconds=batch_seconds,
                    **settings,
                    progress=lambda seconds, number=number: progress.within(number, seconds),  # type: ignore[misc]
                )
                if not found.turns:
                    warn(f"'{file}': nobody speaks in {found.duration:.1f} s of audio.")
                elif len(found.speakers) < (wanted := speakers or least or 0):
                    warn(f"'{file}': {len(found.speakers)} found who speak, where {wanted} were asked for.")
                named: dict[str, Any] = {"name": file, "audio": file}
                if html is not None:
                    write_text(html, render_diarization(found, "html", folder=html.parent, **named))
                if targets is None:
                    typer.echo(render_diarization(found, format.value, **named), nl=False)
                else:
                    folder = targets[number].parent
                    write_text(targets[number], render_diarization(found, format.value, folder=folder, **named))
            except INPUT_ERRORS as error:
                if context.obj["debug"] or len(files) == 1:
                    raise
                failed += 1
                complain(error)
            progress.advance()
    if failed:
        err.print(f"[red]{failed} of {len(files)} recordings could not be diarized.[/red]")
        raise typer.Exit(1)


def loaded_diarizer(model: str | None, speaker_model: str | None, device: str | None, threads: int | None) -> Diarizer:
    """The models that these options name."""
    from wavconformer.tasks.diarize import Diarizer

    with status(f"loading {model or 'the shipped diarization model'}"):
        return Diarizer.load(model, speaker_model=speaker_model, device=device, threads=threads)
