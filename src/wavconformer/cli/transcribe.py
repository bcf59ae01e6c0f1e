"""`wavconformer transcribe`."""

from __future__ import annotations

import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavconformer.cli.app import INPUT_ERRORS, app
from wavconformer.cli.options import (
    ALPHA,
    BATCH_SECONDS,
    BEAM,
    BETA,
    DEVICE,
    ENGINE,
    HOTWORD,
    LM,
    MODEL,
    OUTPUT,
    QUANTIZATION,
    RESUME,
    TARGET_LANG,
    THREADS,
    Engine,
    Format,
    Quantization,
    Vad,
    loaded,
    search_of,
)
from wavconformer.cli.outputs import output_files
from wavconformer.cli.terminal import Unwatched, complain, err, progress_bar, warn

if TYPE_CHECKING:
    from wavconformer.errors import WavConformerError
    from wavconformer.tasks.diarize import Diarizer
    from wavconformer.tasks.transcribe import SegmentStream, Transcript

# Those of which several can stand one after the other.
_JOINABLE = (Format.txt, Format.json, Format.ctm)


@app.command()
def transcribe(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings in any common format.")],
    model: Annotated[str | None, MODEL] = None,
    format: Annotated[
        Format,
        typer.Option(
            help="Text; words with times (json, tsv, ctm, TextGrid); subtitles; a page to look at and listen to.",
            case_sensitive=False,
        ),
    ] = Format.txt,
    output: Annotated[Path | None, OUTPUT] = None,
    resume: Annotated[bool, RESUME] = False,
    device: Annotated[str | None, DEVICE] = None,
    target_lang: Annotated[str | None, TARGET_LANG] = None,
    quantization: Annotated[Quantization | None, QUANTIZATION] = None,
    engine: Annotated[Engine | None, ENGINE] = None,
    window_seconds: Annotated[
        float, typer.Option(min=1, help="Long recordings: speech that goes on for so long is cut.")
    ] = 20.0,
    context_seconds: Annotated[
        float, typer.Option(min=0, help="Audio beyond such a cut that the model hears on either side.")
    ] = 1.0,
    pause_seconds: Annotated[
        float, typer.Option(min=0.2, help="A pause from so long on ends a window and is left out.")
    ] = 0.5,
    vad: Annotated[
        Vad, typer.Option(help="What finds the pauses of long recordings; auto: silero where it is installed.")
    ] = Vad.auto,
    embed: Annotated[
        bool | None,
        typer.Option("--embed/--no-embed", help="Put the recording into an html page; by default up to 8 MiB."),
    ] = None,
    lm: Annotated[str | None, LM] = None,
    alpha: Annotated[float | None, ALPHA] = None,
    beta: Annotated[float | None, BETA] = None,
    beam: Annotated[int | None, BEAM] = None,
    hotword: Annotated[list[str] | None, HOTWORD] = None,
    batch_seconds: Annotated[float | None, BATCH_SECONDS] = None,
    diarize: Annotated[
        bool, typer.Option("--diarize", help="Tell whose each word is too: txt, json, srt, vtt, tsv and html show it.")
    ] = False,
    speakers: Annotated[int | None, typer.Option(min=1, help="With --diarize: how many people speak.")] = None,
    diarization_model: Annotated[
        str | None, typer.Option(help="With --diarize: what hears who speaks; by default what ships along.")
    ] = None,
    speaker_model: Annotated[
        str | None, typer.Option(help="With --diarize: what tells voices apart; by default what ships along.")
    ] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Turn recordings of any length into text.

    One recording gives its text; of several each line is a file name, a tab and the text. A recording that can't be
    read is reported and the others go on; the exit code is then 1.
    """
    if len(files) > 1 and output is None and format not in _JOINABLE:
        raise typer.BadParameter(f"several recordings don't make one {format.value}: give an --output folder.")
    if not diarize and not (speakers is None and diarization_model is None and speaker_model is None):
        raise typer.BadParameter("--speakers, --diarization-model and --speaker-model go with --diarize.")
    if diarize and format is Format.txt and len(files) > 1 and output is None:
        raise typer.BadParameter("several recordings by speaker don't make one txt: give an --output folder.")
    files, targets = output_files(files, output, format.value, resume=resume)
    if not files:
        return
    search = search_of(lm, alpha, beta, beam, hotword)
    from wavconformer.tasks.transcribe import Transcript

    transcriber = loaded(model, device, target_lang, quantization, engine, threads, search)
    cutting: dict[str, Any] = {
        "window_seconds": window_seconds,
        "context_seconds": context_seconds,
        "pause_seconds": pause_seconds,
        "vad": vad.value,
    }
    diarizer = None
    if diarize:
        from wavconformer.cli.diarize import loaded_diarizer

        diarizer = loaded_diarizer(diarization_model, speaker_model, device, None)
    if len(files) == 1 and targets is None and format is Format.txt and diarizer is None:
        _print_text(files[0], transcriber.stream(files[0], batch_seconds=batch_seconds, **cutting))
        return
    failed = 0
    # A bar and texts on one screen would get into each other's way.
    watched = targets is not None or not sys.stdout.isatty()
    with progress_bar(files, "transcribing") if watched else nullcontext(Unwatched()) as progress:
        results = transcriber.many(
            files,
            batch_seconds=batch_seconds,
            on_error="raise" if context.obj["debug"] else "return",
            on_progress=progress.within,
            **cutting,
        )
        for number, (file, result) in enumerate(zip(files, results, strict=True)):
            if diarizer is not None and isinstance(result, Transcript):
                result = _with_speakers(result, diarizer, file, speakers, raises=context.obj["debug"])
            if not isinstance(result, Transcript):
                failed += 1
                complain(result)
                progress.advance()
                continue
            if not result.words:
                _tell_of_silence(file, result.duration)
            if targets is None:
                typer.echo(_formatted(file, result, format, embed, several=len(files) > 1), nl=False)
            else:
                from wavconformer.writers import save_transcript

                save_transcript(result, targets[number], name=file, audio=file, embed=embed)
            progress.advance()
    if failed:
        if len(files) > 1:
            err.print(f"[red]{failed} of {len(files)} recordings could not be transcribed.[/red]")
        raise typer.Exit(1)


def _with_speakers(
    transcript: Transcript, diarizer: Diarizer, file: str, speakers: int | None, *, raises: bool
) -> Transcript | WavConformerError | OSError | ValueError:
    """The transcript with whose each word is, or why there is none."""
    from wavconformer.decoding.diarization import by_speaker

    try:
        return by_speaker(transcript, diarizer(file, speakers=speakers))
    except INPUT_ERRORS as error:
        if raises:
            raise
        return error


def _print_text(file: str, stream: SegmentStream) -> None:
    """Prints the text of one recording as it is found; all of it is one line."""
    from wavconformer.audio import AudioWarning

    space, told = "", len(stream.problems)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # they would come in the middle of the line
        try:
            for segment in stream:
                typer.echo(f"{space}{segment.text}", nl=False)
                sys.stdout.flush()
                space = " "
        finally:
            if space:
                typer.echo()
            for problem in stream.problems[told:]:
                warn(problem)
    if not space:
        typer.echo()
        _tell_of_silence(file, stream.duration)


def _tell_of_silence(file: str, duration: float) -> None:
    warn(f"'{file}': no words in {duration:.1f} s of audio.")


def _formatted(file: str, transcript: Transcript, format: Format, embed: bool | None, *, several: bool) -> str:
    if format is Format.txt and several:
        return f"{file}\t{transcript.text}\n"
    from wavconformer.writers import render

    return render(transcript, format.value, name=file, audio=file, embed=embed)
