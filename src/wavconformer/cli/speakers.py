"""`wavconformer verify`, `calibrate`, `enroll`, `identify` and `speakers`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavconformer.cli.app import app
from wavconformer.cli.options import DEVICE, THREADS
from wavconformer.cli.terminal import complain, counted, err, status

if TYPE_CHECKING:
    from wavconformer.tasks.embedding import Embedder
    from wavconformer.tasks.speakers import SpeakerStore

# Exit code where nothing went wrong, but the answer is no, as that of `align` for a text that doesn't belong.
_NO = 3

_MODEL = typer.Option(help="Folder or Hub repository of a speaker model; by default the one that ships along.")
_STORE = typer.Option(
    metavar="PLACE",
    help="File, folder *.lance, or address as s3://…; by default $WAVCONFORMER_SPEAKERS, else speakers.db in your data "
    "folder.",
)
_CALIBRATION = typer.Option(metavar="FILE", help="What `calibrate` wrote; by default the model folder's.")
_THRESHOLD = typer.Option(help="Score from which on it is one speaker; by default the calibration's.")
_JSON = typer.Option("--json", help="Print JSON.")

speakers_app = typer.Typer(
    help="List the voices in the store; rename or remove one.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(speakers_app, name="speakers")


@app.command()
def verify(
    a: Annotated[str, typer.Argument(metavar="A", help="A recording in any common format.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    model: Annotated[str | None, _MODEL] = None,
    calibration: Annotated[Path | None, _CALIBRATION] = None,
    threshold: Annotated[float | None, _THRESHOLD] = None,
    as_json: Annotated[bool, _JSON] = False,
    device: Annotated[str | None, DEVICE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Tell whether one speaker speaks in two recordings. The exit code is 3 if not."""
    from wavconformer.tasks.verification import verify

    embedder = _embedder(model, device, threads)
    found = verify(a, b, model=embedder, calibration=calibration, threshold=threshold)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        verdict = "the same speaker" if found.is_same else "different speakers"
        chance = "" if found.probability is None else f", probability {found.probability:.2f}"
        typer.echo(f"{verdict} (score {found.score:.3f}, threshold {found.threshold:.3f}{chance})")
    if not found.is_same:
        raise typer.Exit(_NO)


@app.command()
def calibrate(
    trials: Annotated[
        Path, typer.Argument(metavar="TRIALS", dir_okay=False, help="Lines of '1 a b' or 'a b target', of recordings.")
    ],
    model: Annotated[str | None, _MODEL] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default calibration.json in --model's folder."),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="That the recordings are in; by default the list's own.")
    ] = None,
    p_target: Annotated[float, typer.Option(help="Prior probability of one speaker, where the model is used.")] = 0.5,
    c_miss: Annotated[float, typer.Option(help="Cost of taking one speaker for two.")] = 1.0,
    c_false_accept: Annotated[float, typer.Option(help="Cost of taking two speakers for one.")] = 1.0,
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Recordings of many other speakers, to normalise scores by (AS-norm)."),
    ] = None,
    top: Annotated[int, typer.Option(min=2, help="How many of the cohort count, those most alike.")] = 100,
    device: Annotated[str | None, DEVICE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Find the threshold, and what scores mean, on trials whose truth is known."""
    from wavconformer.scoring.calibration import CALIBRATION_FILE
    from wavconformer.tasks.verification import calibrate

    if output is None:
        if model is None or not Path(model).is_dir():
            raise typer.BadParameter("give --output: the model is no folder of yours to write to.")
        output = Path(model) / CALIBRATION_FILE
    if output.is_dir():
        raise typer.BadParameter(f"--output '{output}' is a folder; give a file.")
    others = [] if cohort is None else _recordings(cohort)
    embedder = _embedder(model, device, threads)
    with counted("embedding") as progress:
        report = calibrate(
            trials,
            model=embedder,
            folder=audio,
            p_target=p_target,
            c_miss=c_miss,
            c_false_accept=c_false_accept,
            cohort=others,
            top=top,
            progress=progress,
        )
    report.calibration.save(output)
    scores = report.scores
    typer.echo(
        f"{output}: threshold {report.calibration.threshold:.3f}; on {scores.targets:,} target and "
        f"{scores.nontargets:,} nontarget trials EER {100 * scores.eer:.2f} %, minDCF {scores.costs[0].value:.3f}, "
        f"DCF at the threshold {report.actual_cost:.3f}, Cllr {report.llr_cost:.3f}"
    )


@app.command()
def enroll(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who speaks.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings in which nobody else speaks.")],
    store: Annotated[str | None, _STORE] = None,
    model: Annotated[str | None, _MODEL] = None,
    device: Annotated[str | None, DEVICE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Keep a voice: all of the recordings, or none if one can't be used. More can be added later."""
    with _store(store, _embedder(model, device, threads)) as opened:
        count = opened.enroll(name, files)
        of = f", {count} with those before" if count > len(files) else ""
        typer.echo(f"{name.strip()}: {_counted(len(files))} enrolled{of} ({opened.place})")


@app.command()
def identify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings, each of one speaker.")],
    store: Annotated[str | None, _STORE] = None,
    model: Annotated[str | None, _MODEL] = None,
    calibration: Annotated[Path | None, _CALIBRATION] = None,
    threshold: Annotated[float | None, _THRESHOLD] = None,
    top: Annotated[int, typer.Option(min=1, help="Candidates that --json lists.")] = 5,
    as_json: Annotated[bool, _JSON] = False,
    device: Annotated[str | None, DEVICE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Tell whose enrolled voice is heard. The exit code is 3 if one is nobody's that is known."""
    from wavconformer.errors import AudioError

    failed = unknown = False
    with _store(store, _embedder(model, device, threads), calibration) as opened:
        for file in files:
            try:
                found = opened.identify(file, threshold=threshold, top=top)
            except AudioError as error:
                if len(files) == 1:
                    raise
                complain(error)
                failed = True
                continue
            unknown |= found.name is None
            name = f"{file}\t" if len(files) > 1 else ""
            best = found.candidates[0]
            if as_json:
                typer.echo(json.dumps({"file": file, **asdict(found)}, ensure_ascii=False))
            elif found.name is None:
                said = f"(nearest {best.name} {best.score:.3f}, threshold {found.threshold:.3f})"
                typer.echo(f"{name}unknown {said}")
            else:
                typer.echo(f"{name}{found.name} (score {found.score:.3f}, threshold {found.threshold:.3f})")
    if failed or unknown:
        raise typer.Exit(1 if failed else _NO)


@speakers_app.callback(invoke_without_command=True)
def speakers(
    context: typer.Context, store: Annotated[str | None, _STORE] = None, as_json: Annotated[bool, _JSON] = False
) -> None:
    """List the voices in the store; rename or remove one."""
    context.ensure_object(dict)["store"] = store
    if context.invoked_subcommand is not None:
        return
    with _store(store) as opened:
        voices = opened.speakers()
        if not voices and not as_json:
            err.print(f"The store '{opened.place}' holds nobody.")
        for voice in voices:
            row: dict[str, Any] = asdict(voice)
            text = f"{voice.name}\t{_counted(voice.recordings)}\tsince {voice.since}"
            typer.echo(json.dumps(row, ensure_ascii=False) if as_json else text)


@speakers_app.command("rename")
def rename(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    new: Annotated[str, typer.Argument(metavar="NEW")],
    store: Annotated[str | None, _STORE] = None,
) -> None:
    """Give a voice another name."""
    with _store(store or context.obj["store"]) as opened:
        opened.rename(name, new)


@speakers_app.command("remove")
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    store: Annotated[str | None, _STORE] = None,
) -> None:
    """Forget a voice and its recordings' vectors."""
    with _store(store or context.obj["store"]) as opened:
        opened.remove(name)


def _embedder(model: str | None, device: str | None, threads: int | None) -> Embedder:
    from wavconformer.tasks.embedding import Embedder

    with status(f"loading {model or 'the shipped speaker model'}"):
        return Embedder.load(model, device=device, threads=threads)


def _store(
    place: str | os.PathLike[str] | None, embedder: Embedder | None = None, calibration: Path | None = None
) -> SpeakerStore:
    from wavconformer.tasks.speakers import SpeakerStore

    return SpeakerStore(place, model=embedder, calibration=calibration)


def _counted(recordings: int) -> str:
    return f"{recordings} recording{'s' * (recordings != 1)}"


def _recordings(folder: Path) -> list[str | os.PathLike[str]]:
    """The files in a folder, those below it too, that may be recordings."""
    from wavconformer.errors import DataError

    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file()) if folder.is_dir() else []
    if len(files) < 2:
        raise DataError(f"'{folder}' is no folder with recordings of at least two speakers for a cohort.")
    return [*files]
