"""Diarization error rates on simulated conversations, beside a baseline; and a conversation of hours.

    python -m benchmarks.diarize CORPUS [--model MODEL] [--speaker-model MODEL] [--count 30] [--hours 2] [--write]

CORPUS is what recipes/diarize/conversations.py made: thresholds are chosen on its set dev, error rates are those of its
set test, whose voices neither model was trained on. No collar, overlap scored (pyannote.metrics). The baseline is the
classical one, with the same speaker model: speech found by Silero's detector, a vector of each 1.5 s (every 0.75 s),
average linkage, one speaker at a time. Each is scored with the number of speakers unknown and known. "perfect voices"
are our frames with the local speakers of each window named by the truth: the errors of the frame head alone.

With --hours, a conversation of four people of that set that lasts as long is made, and time and memory of a process
that diarizes it are measured beside those of one that diarizes its first five minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavconformer import Diarization, Diarizer, SpeakerTurn, load_audio
from wavconformer.audio.vad import SpeechSpans, voice_detector
from wavconformer.data.corpus import Corpus
from wavconformer.data.rttm import Turn, read_rttm, turns_by_recording, write_rttm
from wavconformer.decoding.clusters import Voices, assign, group
from wavconformer.scoring.diarization import score_diarization
from wavconformer.tasks.diarize import DiarizationSettings, owners_of
from wavconformer.tasks.embedding import Embedder

RATE = 16_000
WINDOW, STEP = 1.5, 0.75  # seconds of the baseline's
THRESHOLDS = tuple(round(0.05 * number, 2) for number in range(8, 19))
PAGE = Path(__file__).parent / "results" / "diarize.json"

Way = Callable[[str, int | None, float], Diarization]
"""Of a recording, the number of speakers if it is told, and a threshold, who speaks when."""

HOURS = """
import json, sys, time, torch
from wavconformer import Diarizer
from benchmarks.processes import peak
torch.set_num_threads(1)
path, model, speaker_model = sys.argv[1:4]
diarizer = Diarizer.load(model or None, speaker_model=speaker_model or None, device="cpu")
diarizer.embedder
begun, spent = time.perf_counter(), time.process_time()
found = diarizer(path, threshold=float(sys.argv[4]))
took = time.perf_counter() - begun, time.process_time() - spent
print(json.dumps({"seconds": took[0], "cpu_seconds": took[1], "peak": peak(), "speakers": len(found.speakers),
                  "duration": found.duration, "turns": [[one.start, one.end, one.speaker] for one in found.turns]}))
"""


class Remembering(Diarizer):
    """Listens to each recording once, whatever is made of it then."""

    def listen(self, recording: Any, *arguments: Any, **named: Any) -> Any:
        kept = self.__dict__.setdefault("kept", {})
        if recording.name not in kept:
            begun = time.process_time()
            made = super().listen(recording, *arguments, **named | {"bounds": None})
            self.__dict__["spent"] = self.__dict__.get("spent", 0.0) + time.process_time() - begun
            kept[recording.name] = made, recording.heard
        made, recording.heard = kept[recording.name]
        return made


class Told(Remembering):
    """Is told whose each piece is, by most overlap: what remains are the frame head's own errors."""

    truth: Sequence[Turn] = ()

    def _speakers(self, local: Any, settings: Any, bounds: Any) -> Any:
        names = sorted({turn.speaker for turn in self.truth})
        hop, rate = self.model.config.hop_length, self.sampling_rate
        owners = []
        for one in local:
            true = activity(
                self.truth,
                len(one.heard.active),
                [*names],
                one.heard.first * hop / rate,
                hop / rate,
                self.model.config.receptive_field / rate,
            )
            labels = [true[piece.start : piece.stop].sum(0).argmax() for piece in one.pieces]
            owners.append(owners_of(one, np.array(labels, np.int64)))
        return owners, [None] * len(names)


def activity(
    turns: Sequence[Turn], frames: int, names: list[str], start: float, hop: float, window: float
) -> np.ndarray:
    """(frames, names) who speaks at the middle of each frame."""
    middles = start + np.arange(frames) * hop + window / 2
    found = np.zeros((frames, len(names)))
    for turn in turns:
        found[(middles >= turn.start) & (middles < turn.end), names.index(turn.speaker)] = 1
    return found


class Baseline:
    """Speech by a detector, vectors of fixed windows, clustering."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._heard: dict[str, tuple[list[tuple[int, int]], list[tuple[int, int]], Any, float]] = {}

    def __call__(self, path: str, speakers: int | None, threshold: float) -> Diarization:
        if path not in self._heard:
            samples = load_audio(path)
            spans = speech(samples)
            cuts = [cut for span in spans for cut in cut_up(*span)]
            vectors = self.embedder.many([samples[start:end] for start, end in cuts])
            self._heard[path] = spans, cuts, vectors, len(samples) / RATE
        spans, cuts, vectors, duration = self._heard[path]
        seconds = np.array([(end - start) / RATE for start, end in cuts], np.float32)
        voices = Voices(vectors, seconds, np.arange(len(cuts)), np.array([(0, 1)] * len(cuts)))
        labels = assign(voices, group(voices, threshold, speakers or 1, speakers, small=3.0))
        middles = np.array([(start + end) / 2 for start, end in cuts])
        turns = []
        for start, end in spans:
            frames = np.arange(start, end, 160)
            nearest = labels[np.abs(frames[:, None] - middles).argmin(1)]
            edges = [0, *(np.flatnonzero(np.diff(nearest)) + 1), len(frames)]
            for first, last in pairwise(edges):
                stop = end if last == len(frames) else frames[last]
                turns.append(SpeakerTurn(frames[first] / RATE, stop / RATE, str(nearest[first])))
        return Diarization(tuple(turns), duration)


def speech(samples: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of speech in samples, by Silero's detector where it is installed, else by loudness."""
    detector = voice_detector("auto", RATE)
    assert detector is not None
    spans = SpeechSpans(detector.frame, RATE)
    found = [*spans.feed(detector.feed(samples)), *spans.feed(detector.finish()), *spans.finish()]
    return [(start, min(end, len(samples))) for start, end in found if min(end, len(samples)) - start > RATE // 5]


def cut_up(start: int, end: int) -> list[tuple[int, int]]:
    """Windows of a stretch; a short stretch is one."""
    window, step = round(WINDOW * RATE), round(STEP * RATE)
    starts = range(start, max(start + 1, end - window + step), step)
    least = round(0.5 * RATE)
    return [
        (max(0, min(one, end - least)), max(min(one + window, end), min(one, end - least) + least)) for one in starts
    ]


@dataclass(frozen=True)
class Set:
    """Recordings, and who truly speaks when in each."""

    paths: list[str]
    turns: dict[str, list[Turn]]

    @classmethod
    def read(cls, corpus: Path, name: str, count: int) -> Set:
        turns = turns_by_recording(read_rttm(corpus / "turns" / f"{name}.rttm"))
        every = [str(one.audio) for one in Corpus.open(str(corpus / name)) if one.id in turns]
        chosen = every[:: max(1, len(every) // count)][:count]
        return cls(chosen, {Path(path).stem: turns[Path(path).stem] for path in chosen})

    def count(self, path: str) -> int:
        return len({turn.speaker for turn in self.turns[Path(path).stem]})


def score(way: Way, some: Set, threshold: float, is_known: bool) -> dict[str, Any]:
    found: list[Turn] = []
    extents = {}
    right = 0
    for path in some.paths:
        name = Path(path).stem
        one = way(path, some.count(path) if is_known else None, threshold)
        found += [Turn(name, turn.start, turn.end, turn.speaker) for turn in one.turns]
        extents[name] = (0.0, one.duration)
        right += len(one.speakers) == some.count(path)
    true = [turn for turns in some.turns.values() for turn in turns]
    scores = score_diarization(true, found, extents=extents)
    parts = {part: scores.total.share(part) for part in ("missed", "false_alarm", "confusion")}
    return {"der": scores.rate, **parts, "right_count": right / len(some.paths), "recordings": len(some.paths)}


def measure(way: Way, dev: Set, test: Set) -> dict[str, Any]:
    """On test, with the threshold that is best on dev, and with the number of speakers known."""
    rates = {threshold: score(way, dev, threshold, is_known=False)["der"] for threshold in THRESHOLDS}
    best = min(rates, key=rates.__getitem__)
    return {
        "threshold": best,
        "dev": rates,
        "unknown": score(way, test, best, is_known=False),
        "known": score(way, test, best, is_known=True),
    }


def long_conversation(corpus: Path, hours: float, out: Path) -> list[Turn]:
    """Writes a conversation of that many hours between four people of the set test; returns who speaks when."""
    import random

    recipe = Path(__file__).parent.parent / "recipes" / "diarize"
    sys.path.insert(0, str(recipe))
    import conversations

    draw, noise = random.Random(0), np.random.default_rng(0)
    texts = conversations.read_texts(0, conversations.Exclusion([]))
    company = conversations.company_of(4, conversations.everybody(0)["test"], draw)
    said = conversations.repertoire(company, texts, 25, 0, draw)
    sayings = conversations.script(company, said, hours * 3600, draw)
    conversations.write_flac(out, conversations.mixed(sayings, noise, draw))
    return list(conversations.turns_of(sayings, out.stem))


def measure_hours(arguments: argparse.Namespace, threshold: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, short = Path(folder) / "long.flac", Path(folder) / "short.flac"
        turns = long_conversation(arguments.corpus, arguments.hours, path)
        import soundfile

        soundfile.write(short, load_audio(path)[: 300 * RATE], RATE)
        models = [arguments.model or "", arguments.speaker_model or "", str(threshold)]
        made = {}
        for name, file in (("short", short), ("long", path)):
            command = [sys.executable, "-c", HOURS, str(file), *models]
            made[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        found = [Turn("long", *one) for one in made["long"].pop("turns")]
        made["short"].pop("turns")
        made["long"]["der"] = score_diarization(turns, found).rate
        made["long"]["true_speakers"] = len({turn.speaker for turn in turns})
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", help="with the frame head; the shipped one by default")
    parser.add_argument("--speaker-model", help="with the x-vector head; the shipped one by default")
    parser.add_argument("--count", type=int, default=50, help="recordings of each set")
    parser.add_argument("--hours", type=float, default=0.0, help="of a long conversation; none by default")
    parser.add_argument("--rttm", type=Path, help="write what is found in test to this file")
    parser.add_argument("--write", action="store_true", help=f"write the results to {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dev, test = (Set.read(arguments.corpus, name, arguments.count) for name in ("dev", "test"))
    diarizer = Remembering.load(arguments.model, speaker_model=arguments.speaker_model, device="cpu")
    settings: dict[str, Any] = vars(DiarizationSettings()) | {}
    settings.pop("threshold")

    def ours(path: str, speakers: int | None, threshold: float) -> Diarization:
        return diarizer(path, speakers=speakers, threshold=threshold, **settings)

    results: dict[str, Any] = {"diarize": measure(ours, dev, test)}
    told = Told(diarizer.model, diarizer.feature_extractor, lambda: diarizer.embedder)
    told.__dict__["kept"] = diarizer.__dict__["kept"]

    def perfect(path: str, speakers: int | None, threshold: float) -> Diarization:
        told.truth = test.turns[Path(path).stem]
        return told(path, **settings)

    results["perfect voices"] = {"known": score(perfect, test, 0.0, is_known=True)}
    audio = sum(one.seconds for some in (dev, test) for one in durations(some))
    results["audio_seconds_per_cpu_second"] = audio / diarizer.__dict__["spent"]
    if arguments.rttm is not None:
        best = results["diarize"]["threshold"]
        found = [(Path(path).stem, ours(path, None, best)) for path in test.paths]
        turns = [Turn(name, one.start, one.end, one.speaker) for name, some in found for one in some.turns]
        write_rttm(arguments.rttm, turns)
    results["fixed windows"] = measure(Baseline(diarizer.embedder), dev, test)
    show(results)
    if arguments.hours:
        results["hours"] = measure_hours(arguments, results["diarize"]["threshold"])
        print(json.dumps(results["hours"], indent=2))
    if arguments.write:
        PAGE.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Length:
    seconds: float


def durations(some: Set) -> Sequence[_Length]:
    import soundfile

    return [_Length(soundfile.info(path).duration) for path in some.paths]


def show(results: dict[str, Any]) -> None:
    print(f"{'':15s} {'speakers':9s} {'DER':>7s} {'missed':>7s} {'false':>7s} {'confused':>8s} {'right count':>11s}")
    for name in ("diarize", "perfect voices", "fixed windows"):
        for known, one in ((known, results[name][known]) for known in ("unknown", "known") if known in results[name]):
            print(
                f"{name:15s} {known:9s} {one['der']:7.1%} {one['missed']:7.1%} {one['false_alarm']:7.1%} "
                f"{one['confusion']:8.1%} {one['right_count']:11.0%}"
            )
    print({name: results[name]["threshold"] for name in ("diarize", "fixed windows")})
    print(f"{results['audio_seconds_per_cpu_second']:.0f} seconds of audio in a second of one core")


if __name__ == "__main__":
    main()
