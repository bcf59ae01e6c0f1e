"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from wavconformer import __version__
from wavconformer.errors import WavConformerError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wavconformer.decoding.alignment import Alignment
    from wavconformer.tasks.transcribe import SegmentStream, Transcriber, Transcript
    from wavconformer.training.loop import Outcome

app = typer.Typer(
    name="wavconformer",
    help="Wav2Vec2-Conformer speech models: transcribe recordings, look at checkpoints, convert them, train.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

err = Console(stderr=True, soft_wrap=True, highlight=False)

# What a command may raise on account of its input; anything else is a bug of ours and shows its traceback.
INPUT_ERRORS = (WavConformerError, OSError, ValueError)


class Format(str, Enum):
    """Of the text that `transcribe` gives."""

    txt = "txt"
    json = "json"
    srt = "srt"
    vtt = "vtt"
    tsv = "tsv"
    ctm = "ctm"
    textgrid = "TextGrid"
    html = "html"


# Those of which several can stand one after the other.
_JOINABLE = (Format.txt, Format.json, Format.ctm)


class Vad(str, Enum):
    """What finds the pauses of long recordings."""

    auto = "auto"
    silero = "silero"
    energy = "energy"
    off = "off"


class Graph(str, Enum):
    """Kinds of graph that can be written."""

    onnx = "onnx"


class Engine(str, Enum):
    """What runs the model."""

    torch = "torch"
    onnx = "onnx"


class Quantization(str, Enum):
    """Of a model's weights."""

    int8 = "int8"


class Case(Enum):
    """Of the letters in texts that `prepare` writes."""

    KEEP = "keep"
    UPPER = "upper"
    LOWER = "lower"


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


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder, Hub repository, or 'tiny-en', which ships with the package.")
]


# Of the commands that run a model on recordings.
_MODEL = typer.Option(help="Folder or Hub repository; by default the checkpoint that ships along.")
_DEVICE = typer.Option(help="cpu, cuda, mps; by default the fastest at hand.")
_TARGET_LANG = typer.Option(help="Language, such as 'fra', of a model with adapters for several.")
_QUANTIZATION = typer.Option(help="int8: faster on a CPU, nearly as accurate.")
_ENGINE = typer.Option(help="onnx: run the graph that `export` wrote; by default what MODEL holds.")
_THREADS = typer.Option(min=1, help="CPU threads; by default all cores.")


def _loaded(
    model: str | None,
    device: str | None,
    target_lang: str | None,
    quantization: Quantization | None,
    engine: Engine | None,
    threads: int | None,
) -> Transcriber:
    """The model that these options name."""
    from wavconformer.tasks.transcribe import load_model

    with _status(f"loading {model or 'the shipped model'}"):
        return load_model(
            model,
            device=device,
            quantization=None if quantization is None else quantization.value,
            engine=None if engine is None else engine.value,
            threads=threads,
            target_lang=target_lang,
        )


@app.command()
def transcribe(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings in any common format.")],
    model: Annotated[str | None, _MODEL] = None,
    format: Annotated[
        Format,
        typer.Option(
            help="Text; words with times (json, tsv, ctm, TextGrid); subtitles; a page to look at and listen to.",
            case_sensitive=False,
        ),
    ] = Format.txt,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write a file for each recording to, instead of printing.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --output: leave out the recordings whose file is there already.")
    ] = False,
    device: Annotated[str | None, _DEVICE] = None,
    target_lang: Annotated[str | None, _TARGET_LANG] = None,
    quantization: Annotated[Quantization | None, _QUANTIZATION] = None,
    engine: Annotated[Engine | None, _ENGINE] = None,
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
    lm: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Language model, ARPA or a binary of KenLM's; see `lm build`.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the language model, by default 0.5.")] = None,
    beta: Annotated[
        float | None, typer.Option(help="Bonus of each word with a language model, by default 1.5.")
    ] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Width of the beam search, by default 100.")] = None,
    hotword: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT[=WEIGHT]", help="Word or phrase to prefer, by 10 if not said; may be repeated."),
    ] = None,
    batch_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Audio that is computed at once; by default what suits the device.")
    ] = None,
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Turn recordings of any length into text.

    One recording gives its text; of several each line is a file name, a tab and the text. A recording that can't be
    read is reported and the others go on; the exit code is then 1.
    """
    if resume and output is None:
        raise typer.BadParameter("--resume looks for what is in the --output folder: give one.")
    if len(files) > 1 and output is None and format not in _JOINABLE:
        raise typer.BadParameter(f"several recordings don't make one {format.value}: give an --output folder.")
    targets = None if output is None else _targets(files, output, format)
    if resume and targets is not None:
        files, targets = _undone(files, targets)
        if not files:
            return
    if lm is None and not (alpha is None and beta is None):
        raise typer.BadParameter("--alpha and --beta weigh a language model: give one with --lm.")
    weights = _weights(hotword or [])
    from wavconformer.tasks.transcribe import Transcript

    transcriber = _loaded(model, device, target_lang, quantization, engine, threads)
    if lm is not None or beam is not None or weights:
        from wavconformer.decoding.beam import BeamSettings

        given = {"alpha": alpha, "beta": beta, "beam_width": beam}
        settings = BeamSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        with _status(f"reading {lm or 'hot words'}"):
            transcriber.decoder = transcriber.beam_decoder(lm, hotwords=weights, settings=settings)
    cutting: dict[str, Any] = {
        "window_seconds": window_seconds,
        "context_seconds": context_seconds,
        "pause_seconds": pause_seconds,
        "vad": vad.value,
    }
    if len(files) == 1 and targets is None and format is Format.txt:
        _print_text(transcriber.stream(files[0], batch_seconds=batch_seconds, **cutting))
        return
    failed = 0
    # A bar and texts on one screen would get into each other's way.
    watched = targets is not None or not sys.stdout.isatty()
    with _progress(files, "transcribing") if watched else nullcontext(_Unwatched()) as progress:
        results = transcriber.many(
            files,
            batch_seconds=batch_seconds,
            on_error="raise" if context.obj["debug"] else "return",
            on_progress=progress.within,
            **cutting,
        )
        for number, (file, result) in enumerate(zip(files, results, strict=True)):
            if not isinstance(result, Transcript):
                failed += 1
                _complain(result)
            elif targets is None:
                typer.echo(_formatted(file, result, format, embed, several=len(files) > 1), nl=False)
            else:
                from wavconformer.writers import save_transcript

                save_transcript(result, targets[number], name=file, audio=file, embed=embed)
            progress.advance()
    if failed:
        if len(files) > 1:
            err.print(f"[red]{failed} of {len(files)} recordings could not be transcribed.[/red]")
        raise typer.Exit(1)


def _targets(files: list[str], output: Path, format: Format) -> list[Path]:
    targets = [output / f"{Path(file).stem}.{format.value}" for file in files]
    first: dict[Path, str] = {}
    for file, target in zip(files, targets, strict=True):
        twin = first.setdefault(target, file)
        if twin is not file:
            raise typer.BadParameter(f"'{twin}' and '{file}' would both be written to '{target}'.")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"--output '{output}' is a file; give a folder.")
    output.mkdir(parents=True, exist_ok=True)
    return targets


def _undone(files: list[str], targets: list[Path]) -> tuple[list[str], list[Path]]:
    """The recordings that no file was written of yet; files are written whole, so one that is there is done."""
    pairs = [(file, target) for file, target in zip(files, targets, strict=True) if not target.is_file()]
    if len(pairs) < len(files):
        err.print(f"{len(files) - len(pairs)} of {len(files)} are done already.")
    return [file for file, _ in pairs], [target for _, target in pairs]


def _print_text(stream: SegmentStream) -> None:
    """Prints the text of one recording as it is found; all of it is one line."""
    space = ""
    try:
        for segment in stream:
            typer.echo(f"{space}{segment.text}", nl=False)
            sys.stdout.flush()
            space = " "
    finally:
        if space:
            typer.echo()
    if not space:
        typer.echo()


def _formatted(file: str, transcript: Transcript, format: Format, embed: bool | None, *, several: bool) -> str:
    if format is Format.txt and several:
        return f"{file}\t{transcript.text}\n"
    from wavconformer.writers import render

    return render(transcript, format.value, name=file, audio=file, embed=embed)


# Faults of a text that are listed, of each kind.
_MOST_FAULTS = 20


@app.command()
def align(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="A recording in any common format, of any length.")],
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="Text file with what is said in it; - for the input.")],
    model: Annotated[str | None, _MODEL] = None,
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
    device: Annotated[str | None, _DEVICE] = None,
    target_lang: Annotated[str | None, _TARGET_LANG] = None,
    quantization: Annotated[Quantization | None, _QUANTIZATION] = None,
    engine: Annotated[Engine | None, _ENGINE] = None,
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Find when each line and word of a text is said in a recording.

    Lines that fit badly and speech that the text doesn't have are told of on standard error. Where the text as a whole
    doesn't fit, the exit code is 3.
    """
    from wavconformer.tasks.align import THRESHOLD, render_alignment
    from wavconformer.tasks.align import align as aligned

    chosen = format or _alignment_format(output)
    given = sys.stdin.read() if str(text) == "-" else text
    transcriber = _loaded(model, device, target_lang, quantization, engine, threads)
    with _heard("listening") as progress:
        alignment = aligned(audio, given, model=transcriber, language=language, vad=vad.value, progress=progress)
    written = render_alignment(alignment, chosen.value, audio, audio=audio)
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
        _warn(f"Line {line.number} {what}, score {line.score:.2f}: {line.text}")
    if len(bad) > _MOST_FAULTS:
        _warn(f"… and {len(bad) - _MOST_FAULTS} more lines.")
    for stretch in alignment.untranscribed[:_MOST_FAULTS]:
        _warn(f"No line has the speech at {stretch.start:.2f}–{stretch.end:.2f} s.")
    if len(alignment.untranscribed) > _MOST_FAULTS:
        _warn(f"… and {len(alignment.untranscribed) - _MOST_FAULTS} more stretches of speech.")
    if alignment.score < threshold:
        _complain(
            ValueError(
                f"The text doesn't belong to the recording: its score is {alignment.score:.2f}, below the threshold of "
                f"{threshold:g}. Check the two, or the model's language."
            )
        )
        raise typer.Exit(3)


@app.command()
def demo() -> None:
    """Transcribe the sample recordings that ship with the package."""
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
    with _status(f"exporting {model}"):
        made = write(model, folder, to=to.value, quantization=None if quantization is None else quantization.value)
    measure = "differs from PyTorch by" if quantization is None else "differs from full precision (root mean square) by"
    typer.echo(f"{made.folder}: {made.output}, {made.megabytes:.1f} MiB, {measure} {made.difference:.1e}")


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
        with _counted("examining") as progress:
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


_RECIPE = typer.Argument(metavar="RECIPE.yaml", help="What to train on, how, and where to write; see recipes/.")
_OVERRIDES = typer.Argument(metavar="[KEY=VALUE]...", help="Settings over those of the recipe, as optim.lr=3e-4.")
_RESUME = typer.Option("--resume", help="Go on from the newest checkpoint in the run's folder, if there is one.")


@app.command()
def finetune(
    recipe: Annotated[Path, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    resume: Annotated[bool, _RESUME] = False,
) -> None:
    """Train on labels: transcripts, classes, speakers, who speaks when; all weights, adapters, or LoRA.

    The run's folder (logging.folder) gets checkpoints, metrics, curves, and at the end the model. Ctrl-C and SIGTERM
    save before they end it. For several processes: accelerate launch -m wavconformer finetune …
    """
    from wavconformer.training.finetune import finetune as tuned

    _tell(tuned(recipe, overrides or (), resume=resume, console=err))


@app.command()
def pretrain(
    recipe: Annotated[Path, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    resume: Annotated[bool, _RESUME] = False,
) -> None:
    """Train on speech without labels. The run's folder and --resume are as with finetune."""
    from wavconformer.training.pretrain import pretrain as trained

    _tell(trained(recipe, overrides or (), resume=resume, console=err))


def _tell(outcome: Outcome) -> None:
    """Says, in the first of several processes, where a run has got to; exit code 130 or 143 after a signal."""
    is_first = os.environ.get("RANK", "0") == "0"
    if outcome.stopped_by is None:
        if is_first:
            typer.echo(str(outcome.model))
        return
    if is_first:
        err.print(
            f"[yellow]Stopped at update {outcome.step} and saved. The same command with --resume goes on.[/yellow]"
        )
    raise typer.Exit(128 + signal.Signals[outcome.stopped_by])


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What a run with model.adapter or model.lora gave.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write the whole checkpoint to.")],
    base: Annotated[str | None, typer.Option(help="The checkpoint it was trained beside, if it has moved.")] = None,
) -> None:
    """Make one checkpoint of an adapter or LoRA and the model that it was trained beside."""
    from wavconformer.training.merge import merge as merged

    typer.echo(str(merged(folder, output, base)))


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
    device: Annotated[str | None, _DEVICE] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights, such as float16; float32 by default.")] = None,
    target_lang: Annotated[str | None, typer.Option(help="Language, of a model with adapters for several.")] = None,
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Score a checkpoint, or hypotheses, on a data set: WER and CER, accuracy, EER and minDCF, or DER.

    What is scored follows from the checkpoint's class. A recording that can't be read is reported and the others go
    on; the exit code is then 1. With --output a run that was stopped goes on where it was.
    """
    if (model is None) == (hypotheses is None):
        raise typer.BadParameter("give --model or --hypotheses, one of the two.")
    if data is None and trials is None and rttm is None:
        raise typer.BadParameter("give --data (or --trials, or --rttm).")
    _use_threads(threads)
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
        _warn(f"{len(evaluation.unused)} hypotheses for nothing in the data, the first for '{evaluation.unused[0]}'.")
    if evaluation.failures:
        err.print(f"[red]{len(evaluation.failures)} could not be scored.[/red]")
        raise typer.Exit(1)


lm_app = typer.Typer(
    help="Language models for decoding: estimate one from text, measure one.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lm_app, name="lm")


class Unit(str, Enum):
    """What a language model's n-grams are made of."""

    word = "word"
    letter = "letter"


_TEXTS = typer.Argument(metavar="TEXT...", help="Text files, UTF-8, a sentence a line, plain or .gz; - for the input.")
_CASE = typer.Option(help="Change the letters of the text, to those that the acoustic model writes.")
_UNIT = typer.Option(help="letter: for models without a token between words.")


@lm_app.command("build")
def lm_build(
    texts: Annotated[list[Path], _TEXTS],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="ARPA file to write; with gzip if it ends in .gz.")
    ],
    order: Annotated[int, typer.Option(min=1, help="Words of the longest n-grams.")] = 4,
    prune: Annotated[
        str,
        typer.Option(
            metavar="COUNTS",
            help="For each order, from 1 on, the count up to which n-grams are left out, as '0 0 1'; the last holds "
            "for higher orders too.",
        ),
    ] = "0",
    case: Annotated[Case, _CASE] = Case.KEEP,
    unit: Annotated[Unit, _UNIT] = Unit.word,
) -> None:
    """Estimate an n-gram model: interpolated modified Kneser-Ney, the numbers of KenLM's lmplz."""
    from wavconformer.lm.arpa import write_arpa
    from wavconformer.lm.kneser_ney import Corpus, estimate
    from wavconformer.lm.text import read_sentences

    try:
        thresholds = [int(count) for count in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"--prune '{prune}' is no list of counts, as '0 0 1'.") from None
    if output.is_dir():
        raise typer.BadParameter(f"--output '{output}' is a folder; name a file.")
    corpus = Corpus()
    with _status("reading"):
        for sentence in read_sentences(texts, case.value, unit.value):
            corpus.add(sentence)
    with _status("estimating") as status:
        made = estimate(corpus, order, thresholds, progress=lambda doing: status.update(doing) if status else None)
    with _counted("writing") as progress:
        write_arpa(made.model, output, progress)
    if made.fallbacks:
        orders = ", ".join(map(str, made.fallbacks))
        _warn(f"The text is too small to tell the discounts of order {orders}: fixed ones were taken.")
    sizes = ", ".join(f"{count:,} {number}-grams" for number, count in enumerate(made.model.counts, 1))
    typer.echo(f"{output}: {made.sentences:,} sentences, {made.tokens:,} tokens; {sizes}")


@lm_app.command("perplexity")
def lm_perplexity(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ARPA file, or a binary of KenLM's.")],
    texts: Annotated[list[Path], _TEXTS],
    case: Annotated[Case, _CASE] = Case.KEEP,
    unit: Annotated[Unit, _UNIT] = Unit.word,
) -> None:
    """Measure how well a language model foresees a text."""
    from wavconformer.lm import read_lm
    from wavconformer.lm.perplexity import perplexity
    from wavconformer.lm.text import read_sentences

    with _status(f"reading {model}"):
        lm = read_lm(model)
    with _status("scoring"):
        result = perplexity(lm, read_sentences(texts, case.value, unit.value))
    typer.echo(str(result))


def _weights(options: list[str]) -> dict[str, float]:
    """Hot words given as TEXT or TEXT=WEIGHT."""
    weights = {}
    for option in options:
        text, sign, weight = option.rpartition("=")
        try:
            weights[text if sign else weight] = float(weight) if sign else 10.0
        except ValueError:
            raise typer.BadParameter(f"--hotword '{option}' is not TEXT or TEXT=WEIGHT.") from None
    return weights


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


@contextmanager
def _counted(verb: str) -> Iterator[Callable[[int, int], None]]:
    """As `_progress`, for who tells how many are done, and of how many."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    with _bar() as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


class _Unwatched:
    """Progress that nobody sees."""

    def advance(self) -> None:
        """One more recording is done."""

    def within(self, number: int, seconds: float) -> None:
        """So many seconds of a long recording, whose number is told, have been heard."""


class _Bar(_Unwatched):
    def __init__(self, bar: Progress, task: TaskID, verb: str, files: list[str]) -> None:
        self._bar, self._task, self._verb, self._files = bar, task, verb, files

    def advance(self) -> None:
        self._bar.update(self._task, advance=1, description=self._verb)

    def within(self, number: int, seconds: float) -> None:
        minutes, second = divmod(round(seconds), 60)
        name = escape(Path(self._files[number]).name)
        self._bar.update(self._task, description=f"{self._verb} {name} at {minutes}:{second:02}")


@contextmanager
def _progress(files: list[str], verb: str) -> Iterator[_Unwatched]:
    """A bar on standard error, where somebody watches."""
    if not err.is_terminal:
        yield _Unwatched()
        return
    with _bar() as bar:
        yield _Bar(bar, bar.add_task(verb, total=len(files)), verb, files)


def _bar() -> Progress:
    """A bar on standard error, behind what is being done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, redirect_stdout=False)


@contextmanager
def _heard(verb: str) -> Iterator[Callable[[float], None]]:
    """A spinner with the minutes of audio that are done, where somebody watches."""
    if not err.is_terminal:
        yield lambda seconds: None
        return
    with err.status(verb) as status:
        yield lambda seconds: status.update(f"{verb} {int(seconds) // 60}:{int(seconds) % 60:02}")


def _status(doing: str) -> AbstractContextManager[Any]:
    """A spinner on standard error, where somebody watches."""
    return err.status(doing) if err.is_terminal else nullcontext()


def _complain(error: BaseException) -> None:
    err.print(f"[red]{escape(' '.join(str(error).split()) or type(error).__name__)}[/red]")


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(f"[yellow]{escape(' '.join(str(message).split()))}[/yellow]")


def main() -> None:
    """Runs the command line: exit code 0, 1 where the input is at fault, 2 for wrong usage."""
    warnings.showwarning = _warn
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # our own message says what the Hub didn't give
    debug = "--debug" in sys.argv
    try:
        app()
    except INPUT_ERRORS as error:
        if debug:
            raise
        _complain(error)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does: nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
