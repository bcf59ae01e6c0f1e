"""`wavconformer serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavconformer.cli.app import app
from wavconformer.cli.options import (
    DEVICE,
    ENGINE,
    LM,
    MODEL,
    QUANTIZATION,
    TARGET_LANG,
    THREADS,
    Engine,
    Quantization,
    loaded,
    search_of,
)
from wavconformer.cli.terminal import status
from wavconformer.errors import WavConformerError


@app.command()
def serve(
    model: Annotated[str | None, MODEL] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="What clients call the model; may be repeated. By default as --model has it."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for one that is free.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys that clients must have, one a line.")
    ] = None,
    no_api_key: Annotated[
        bool, typer.Option("--no-api-key", help="Let anybody in who reaches it, from other machines too.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name under which it may be asked besides localhost; * for any.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Web site whose pages may ask it, as https://example.org.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Batches that go through the model at once; by default what suits it.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Further language of a model with adapters, that clients may ask for.")
    ] = None,
    lm: Annotated[str | None, LM] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="Checkpoint for classify, speakers (embed, verify) or diarize."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where jobs are kept; by default ~/.local/state/wavconformer.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests that are worked on at once.")] = 16,
    queue: Annotated[int, typer.Option(min=0, help="Requests that wait; more are told to come again (429).")] = 16,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a request may take.")] = 120,
    max_megabytes: Annotated[float, typer.Option(min=0.1, help="Of a request's body.")] = 100,
    max_minutes: Annotated[float, typer.Option(min=0.1, help="Of a request's audio.")] = 30,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs that may wait.")] = 100,
    job_megabytes: Annotated[float, typer.Option(min=0.1, help="Of a job's body.")] = 2048,
    job_hours: Annotated[float, typer.Option(min=0.1, help="Of a job's audio.")] = 12,
    folder_megabytes: Annotated[float, typer.Option(min=0.1, help="Of all jobs' recordings together.")] = 16_384,
    keep_days: Annotated[float, typer.Option(min=0.01, help="That a finished job's result is kept.")] = 7,
    streams: Annotated[int, typer.Option(min=0, help="Live streams at once.")] = 8,
    grace: Annotated[float, typer.Option(min=1, help="Seconds to finish in, when it is told to stop.")] = 30,
    log_text: Annotated[bool, typer.Option("--log-text", help="Put what was said into the log.")] = False,
    device: Annotated[str | None, DEVICE] = None,
    target_lang: Annotated[str | None, TARGET_LANG] = None,
    quantization: Annotated[Quantization | None, QUANTIZATION] = None,
    engine: Annotated[Engine | None, ENGINE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Answer requests over HTTP, as the OpenAI API has them, live streams, and jobs. See docs/serving.md."""
    try:
        from wavconformer.serve.app import create_app
        from wavconformer.serve.server import serve as run
    except ModuleNotFoundError as error:
        raise WavConformerError(
            f"The server needs {error.name}, which isn't installed: pip install 'wavconformer[serve]'."
        ) from error
    from wavconformer.files import DEFAULT_MODEL
    from wavconformer.serve.service import Service
    from wavconformer.serve.settings import Settings, default_folder, read_keys

    settings = Settings(
        host=host,
        port=port,
        keys=() if api_key_file is None else read_keys(api_key_file),
        names=tuple(name or [model or DEFAULT_MODEL]),
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        workers=workers,
        concurrency=concurrency,
        queue=queue,
        timeout_seconds=timeout,
        megabytes=max_megabytes,
        minutes=max_minutes,
        folder=folder or default_folder(),
        jobs=jobs,
        job_megabytes=job_megabytes,
        job_hours=job_hours,
        folder_megabytes=folder_megabytes,
        keep_days=keep_days,
        streams=streams,
        grace_seconds=grace,
        log_text=log_text,
    )
    if not settings.is_local and not settings.keys and not no_api_key:
        raise WavConformerError(
            f"At {host} other machines reach the server: give --api-key-file, or --no-api-key to let anybody in."
        )
    models = dict(_named_model(text) for text in task or ())
    transcriber = loaded(model, device, target_lang, quantization, engine, threads, search_of(lm))
    with status("making ready"):
        service = Service(transcriber, settings, languages=tuple(language or ()), models=models)
    run(create_app(service), service)


def _named_model(text: str) -> tuple[str, str]:
    name, sign, place = text.partition("=")
    if not (name and sign and place):
        raise typer.BadParameter(f"--task '{text}' is not NAME=MODEL.")
    return name, place
