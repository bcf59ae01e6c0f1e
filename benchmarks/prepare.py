"""Time, memory and report of `wavconformer prepare` on many short files, a few of which are broken in known ways.

    python -m benchmarks.prepare [--files 10000] [--broken 0.01] [--workers 1 2]

The files are made in a temporary folder: stretches of one to three seconds of the recordings that ship, at random
loudness and with a little noise. For each kind of break it is said how many were made and as what they were refused;
the exit code is 1 unless exactly the broken ones were. Memory is the sum of what all processes hold (their shares of
what they hold together counted, Linux), looked at ten times a second.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from wavconformer import load_audio
from wavconformer.files import ASSETS

RATE = 16_000
WORDS = ("TURN", "ON", "THE", "LIGHTS", "IN", "KITCHEN", "PLEASE", "AND", "SET", "A", "TIMER", "FOR", "TEN", "MINUTES")


@dataclass
class Entry:
    """A line of the table, and its file's bytes; None for no file."""

    id: str
    text: str
    data: bytes | None


def _header(offset: int, value: int) -> Callable[[Entry], None]:
    """Writes a number of four bytes into the header of a WAV file."""

    def change(entry: Entry) -> None:
        assert entry.data is not None
        entry.data = entry.data[:offset] + value.to_bytes(4, "little") + entry.data[offset + 4 :]

    return change


def _data(change: Callable[[bytes], bytes | None]) -> Callable[[Entry], None]:
    def apply(entry: Entry) -> None:
        assert entry.data is not None
        entry.data = change(entry.data)

    return apply


def _text(change: Callable[[str], str]) -> Callable[[Entry], None]:
    def apply(entry: Entry) -> None:
        entry.text = change(entry.text)

    return apply


# The samples of a WAV file as soundfile writes it begin at byte 44; the rate is at byte 24.
BREAKS: dict[str, tuple[str, Callable[[Entry], None]]] = {
    "truncated WAV": ("wav", _data(lambda data: data[: len(data) // 2])),
    "truncated FLAC": ("flac", _data(lambda data: data[: len(data) // 2])),
    "file of zero bytes": ("wav", _data(lambda data: b"")),
    "header without samples": ("wav", _data(lambda data: data[:40] + bytes(4))),
    "a text called .wav": ("wav", _data(lambda data: b"This is no sound at all.\n" * 99)),
    "random bytes called .flac": ("flac", _data(lambda data: np.random.default_rng(len(data)).bytes(len(data)))),
    "silence": ("wav", _data(lambda data: data[:44] + bytes(len(data) - 44))),
    "missing file": ("wav", _data(lambda data: None)),
    "header says 0 Hz": ("wav", _header(24, 0)),
    "header says 4,000 Hz": ("wav", _header(24, 4_000)),
    "header says 192,000 Hz": ("wav", _header(24, 192_000)),
    "text outside the vocabulary": ("wav", _text(lambda text: f"{text} CAFÉ 7")),
    "text of another recording": ("wav", _text(lambda text: " ".join([text] * 40))),
    "no text": ("flac", _text(lambda text: "")),
}


def make(folder: Path, files: int, broken: int) -> dict[str, str]:
    """Writes recordings and all.jsonl; the ids of the broken ones, each with what is wrong with it."""
    random = np.random.default_rng(0)
    speech = np.concatenate([load_audio(path) for path in sorted((ASSETS / "samples").glob("*.flac"))])
    where = random.choice(files, broken, replace=False).tolist()
    kinds = {number: list(BREAKS)[place % len(BREAKS)] for place, number in enumerate(where)}
    wrong = {}
    with (folder / "all.jsonl").open("w", encoding="utf-8") as table:
        for number in range(files):
            kind = kinds.get(number)
            suffix, change = ("flac" if number % 2 else "wav", None) if kind is None else BREAKS[kind]
            entry = _entry(number, suffix, speech, random)
            if kind is not None and change is not None:
                wrong[entry.id] = kind
                change(entry)
            path = folder / f"{number // 1000:03d}" / f"{entry.id}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            if entry.data is not None:
                path.write_bytes(entry.data)
            line = {"id": entry.id, "audio": str(path.relative_to(folder)), "text": entry.text}
            table.write(json.dumps(line, ensure_ascii=False) + "\n")
    return wrong


def _entry(number: int, suffix: str, speech: np.ndarray, random: np.random.Generator) -> Entry:
    length = int(random.integers(RATE, 3 * RATE))
    start = int(random.integers(0, len(speech) - length))
    samples = speech[start : start + length] * random.uniform(0.3, 0.9)
    samples = samples + 0.003 * random.standard_normal(length)
    with tempfile.SpooledTemporaryFile(max_size=10**6) as file:
        soundfile.write(file, np.clip(samples, -1, 1), RATE, "PCM_16", format=suffix.upper())
        file.seek(0)
        data = file.read()
    return Entry(f"u{number:06d}", " ".join(random.choice(WORDS, 2 + length // RATE)), data)


@dataclass
class Watched:
    """A process and its children: seconds, those of the processor, and bytes of memory ten times a second."""

    seconds: float = 0.0
    processor: float = 0.0
    held: list[int] = field(default_factory=list)


def watch(command: list[str]) -> Watched:
    """Runs a command to its end; CalledProcessError where it fails."""
    watched, begun, before = Watched(), time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            watched.held.append(sum(map(_memory, _family(process.pid))))
            time.sleep(0.1)
    watched.seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    watched.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return watched


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:  # which grows meanwhile
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def _memory(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has ended
    return 0


def show(ready: Path, wrong: dict[str, str], watched: Watched, workers: int) -> bool:
    """Prints what came of it; whether exactly the broken ones were refused."""
    report = json.loads((ready / "report.json").read_text(encoding="utf-8"))
    lines = (ready / "refused.jsonl").read_text(encoding="utf-8").splitlines()
    refused = {line["id"]: line["reason"] for line in map(json.loads, lines)}
    half = len(watched.held) // 2
    first, second = (max(part, default=0) / 1e6 for part in (watched.held[:half], watched.held[half:]))
    files = report["accepted"] + report["refused"]
    print(f"\nworkers: {workers}; {watched.seconds:.1f} s, {files / watched.seconds:.0f} files a second", end="")
    print(f"; {watched.processor:.1f} s of processor time")
    print(f"memory of all processes: at most {first:.0f} MB in the first half, {second:.0f} MB in the second")
    print(f"accepted {report['accepted']:,}, refused {report['refused']:,}: {report['reasons']}")
    for kind in BREAKS:
        ids = [name for name, what in wrong.items() if what == kind]
        found = Counter(refused.get(name, "ACCEPTED") for name in ids)
        print(f"  {kind:<28} {len(ids):>4}  {', '.join(f'{reason}: {n}' for reason, n in found.items())}")
    sound = sorted(refused.keys() - wrong.keys())
    if sound:
        print(f"  refused though nothing is wrong with them: {', '.join(sound[:10])}")
    return refused.keys() == wrong.keys()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--broken", type=float, default=0.01, help="share of the files")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    exact = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrong = make(folder, arguments.files, round(arguments.files * arguments.broken))
        print(f"{arguments.files:,} files, {len(wrong)} of them broken")
        for workers in arguments.workers:
            ready = folder / f"ready{workers}"
            command = [sys.executable, "-m", "wavconformer", "prepare", str(folder / "all.jsonl"), "-o", str(ready)]
            watched = watch([*command, "--vocabulary", "tiny-en", "--workers", str(workers)])
            exact &= show(ready, wrong, watched, workers)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
