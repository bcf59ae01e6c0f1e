"""Spoken recordings in parts: shards that several processes make, each noted once it is whole, and what they add up to.

A set that was interrupted goes on where it stopped, and the same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from wavconformer.audio import SAMPLE_RATE
from wavconformer.data.corpus import write_index
from wavconformer.data.manifest import MANIFEST_FILE
from wavconformer.data.shards import ShardWriter
from wavconformer.data.utterance import Utterance
from wavconformer.errors import DataError, WavConformerError
from wavconformer.files import atomic, write_json, write_text

Samples = NDArray[np.float32]

PART = 512  # utterances of a shard, which one worker makes in one go

_PARTS = ".parts"  # folder of a set: a file for each shard that is complete
_HEADING = "corpus.json"


@dataclass(frozen=True)
class Take:
    """A recording to be kept: samples (S,), their peak's level below nine tenths of full scale, and what is known."""

    id: str
    samples: Samples
    level_db: float
    text: str
    speaker: str
    label: str


def number_of(*parts: object) -> int:
    """A number of 31 bits that goes with these parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little") >> 1


def check_heading(out: Path, heading: dict[str, Any]) -> None:
    """Writes what a corpus is made from; DataError where the folder holds one that is made from something else."""
    path = out / _HEADING
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != heading:
        raise DataError(f"'{out}' holds a corpus of another seed, version or exclusion: give another folder.")
    write_json(path, heading)


def part_count(lines: Sequence[Any]) -> int:
    """How many parts these lines make."""
    return -(-len(lines) // PART)


def make_parts(
    make: Callable[..., None],
    out: Path,
    sets: dict[str, Sequence[Any]],
    seed: int,
    workers: int,
    console: Console | None = None,
) -> None:
    """Has processes make all parts that aren't there yet, by `make(folder, number, lines, seed)`."""
    work = [
        (out / name, number, lines[number * PART : (number + 1) * PART], seed)
        for name, lines in sets.items()
        for number in range(part_count(lines))
        if not _part_file(out / name, number).is_file()
    ]
    columns = (TextColumn("speaking"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=console or Console(stderr=True), transient=True) as bar,
        ProcessPoolExecutor(workers, context, _start) as pool,
    ):
        task = bar.add_task("speaking", total=len(work))
        parts = [pool.submit(make, *one) for one in work]
        try:
            for part in as_completed(parts):
                part.result()
                bar.advance(task)
        except BrokenProcessPool as error:
            raise DataError("A worker was ended from outside. The same command goes on where it stopped.") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start() -> None:
    """Has a worker end at once at Ctrl-C, and with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _part_file(folder: Path, number: int) -> Path:
    return folder / _PARTS / f"{number:06d}.jsonl"


def write_part(folder: Path, number: int, takes: Iterable[Take]) -> None:
    """Writes recordings into a shard, and notes them once that is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = ShardWriter(folder, number, size=1 << 62)
    notes = []
    for take in takes:
        shard, offset = shards.write(f"{take.id}.flac", data := _flac(take.samples, take.level_db))
        utterance = Utterance(
            id=take.id,
            audio=str(shard),
            text=take.text,
            speaker=take.speaker,
            label=take.label,
            seconds=round(len(take.samples) / SAMPLE_RATE, 4),
            offset=offset,
            size=len(data),
        )
        notes.append(json.dumps(utterance.as_dict(folder.absolute())) + "\n")
    shards.close()
    write_text(_part_file(folder, number), "".join(notes))


def _flac(samples: Samples, level_db: float = 0.0) -> bytes:
    """The samples as a FLAC file of 16 bits, their peak at 0.9 of full scale less the level; silence stays silence."""
    peak = float(np.abs(samples).max()) or 1.0
    file = io.BytesIO()
    soundfile.write(file, samples / peak * 0.9 * 10 ** (level_db / 20), SAMPLE_RATE, "PCM_16", format="FLAC")
    return file.getvalue()


def finish(folder: Path, count: int, kinds: Iterable[str] = ()) -> None:
    """Puts the parts of a set together, as `wavconformer prepare` leaves a corpus; and each kind of label by itself."""
    lines = [
        line for number in range(count) for line in _part_file(folder, number).read_bytes().splitlines(keepends=True)
    ]
    _write_manifest(folder / MANIFEST_FILE, lines)
    for kind in kinds:
        _write_manifest(folder / f"{kind}.jsonl", [line for line in lines if json.loads(line)["label"] == kind])


def _write_manifest(path: Path, lines: list[bytes]) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(b"".join(lines))
    offsets = np.cumsum([0, *map(len, lines)])[:-1]
    write_index(path, offsets, (json.loads(line)["seconds"] for line in lines))


def write_recording(path: Path, samples: Samples) -> None:
    """Writes a FLAC file of its own."""
    with atomic(path) as temporary:
        temporary.write_bytes(_flac(samples))


@contextmanager
def telling(console: Console) -> Iterator[None]:
    """Tells what is wrong, or that a run was interrupted, in place of a traceback."""
    try:
        yield
    except WavConformerError as error:
        console.print(f"[red]{error}[/red]", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("[yellow]Interrupted. The same command goes on where it stopped.[/yellow]")
        raise typer.Exit(130) from None
