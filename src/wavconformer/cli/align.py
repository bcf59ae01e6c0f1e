"""`wavconformer align`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavconformer.cli.app import app
from wavconformer.cli.options import (
    DEVICE,
    ENGINE,
    MODEL,
    QUANTIZATION,
    TARGET_LANG,
    THREADS,
    Engine,
    Format,
    Quantization,
    Vad,
    loaded,
)
from wavconformer.cli.terminal import complain, heard, warn

if TYPE_CHECKING:
    from wavconformer.decoding.alignment import Alignment

# Faults of a text that are listed, of each kind.
_MOST_FAULTS = 20


@app.command()
def align(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="A recording in any common format, of any length.")],
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="Text file with what is said in it; - for the input.")],
    model: Annotated[str | None, MODEL] = None,
    language: Annotated[
        str | None,
        typer.Option(help="In which numbers and signs are read out, as en; without it their times are rough."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(
            help="By default that of --output's name, or tsv, a row for each line; json has all there is.",
            case_sensitive=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of printing.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lines with a lower score are told of; a text with a lower one is refused."),
    ] = None,
    vad: Annotated[Vad, typer.Option(help="What finds the pauses; auto: silero where it is installed.")] = Vad.auto,
    device: Annotated[str | None, DEVICE] = None,
    target_lang: Annotated[str | None, TARGET_LANG] = None,
    quantization: Annotated[Quantization | None, QUANTIZATION] = None,
    engine: Annotated[Engine | None, ENGINE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Find when each line and word of a text is said in a recording.

    Lines that fit badly and speech that the text doesn't have are told of on standard error. Where the text as a whole
    doesn't fit, the exit code is 3.
    """
    from wavconformer.tasks.align import THRESHOLD, decoded_lines, render_alignment
    from wavconformer.tasks.align import align as aligned

    if output is not None and output.is_dir():
        raise typer.BadParameter(f"--output '{output}' is a folder; name a file.")
    chosen = format or _alignment_format(output)
    given = decoded_lines(sys.stdin.buffer.read(), "The input") if str(text) == "-" else text
    transcriber = loaded(model, device, target_lang, quantization, engine, threads)
    with heard("listening") as progress:
        alignment = aligned(audio, given, model=transcriber, language=language, vad=vad.value, progress=progress)
    folder = None if output is None else output.parent
    written = render_alignment(alignment, chosen.value, audio, audio=audio, folder=folder)
    if output is None:
        typer.echo(written, nl=False)
    else:
        from wavconformer.files import write_text

        write_text(output, written)
    _tell_of_faults(alignment, THRESHOLD if threshold is None else threshold)


def _alignment_format(output: Path | None) -> Format:
    """That of the file's name."""
    if output is None or not output.suffix:
        return Format.tsv
    names = {f".{format.value.lower()}": format for format in Format}
    if output.suffix.lower() not in names:
        raise typer.BadParameter(f"'{output}' is of no known format: give --format, or one of {', '.join(names)}.")
    return names[output.suffix.lower()]


def _tell_of_faults(alignment: Alignment, threshold: float) -> None:
    """Lines that fit badly and speech without text, on standard error; exit code 3 for a text that doesn't fit."""
    bad = alignment.bad_lines(threshold)
    for line in bad[:_MOST_FAULTS]:
        what = "isn't heard" if line.is_interpolated else f"fits badly at {line.start:.2f}–{line.end:.2f} s"
        warn(f"Line {line.number} {what}, score {line.score:.2f}: {line.text}")
    if len(bad) > _MOST_FAULTS:
        warn(f"… and {len(bad) - _MOST_FAULTS} more lines.")
    for stretch in alignment.untranscribed[:_MOST_FAULTS]:
        warn(f"No line has the speech at {stretch.start:.2f}–{stretch.end:.2f} s.")
    if len(alignment.untranscribed) > _MOST_FAULTS:
        warn(f"… and {len(alignment.untranscribed) - _MOST_FAULTS} more stretches of speech.")
    if alignment.score < threshold:
        complain(
            ValueError(
                f"The text doesn't belong to the recording: its score is {alignment.score:.2f}, below the threshold of "
                f"{threshold:g}. Check the two, or the model's language."
            )
        )
        raise typer.Exit(3)
