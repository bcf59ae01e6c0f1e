"""A long recording against its utterances alone: memory, errors, time, seams, word times.

    python -m benchmarks.long RECORDINGS [--minutes 120] [--pause 0.3 2.5] [--model MODEL] [--vad silero] …

RECORDINGS is a folder with a transcripts.tsv (columns: file, text). Its utterances, in drawn order, are joined with
pauses of drawn length, and the same faint noise lies under all. Each utterance is also cut out of that recording and
transcribed alone, with the silence round it that a window has, so that both ways hear the same samples; and once more
without that silence, for its WER. Decoding is greedy. Word times are also compared with those of `align`, which knows
the texts. Times are those of the CPU (one thread), a stretch of the recording and its utterances in turn. Memory is the
peak of a process of its own that transcribes the file, beside one that transcribes its first minute.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

from wavconformer import Cutting, Transcriber, Word, load_audio, load_model, stream_audio
from wavconformer.audio.vad import voice_detector
from wavconformer.audio.windows import PAD, Windower
from wavconformer.tasks.align import align

RATE = 16_000
NEAR = 0.5  # seconds from a seam
MEMORY = """
import json, sys, torch
from wavconformer import load_model
from benchmarks.processes import peak
torch.set_num_threads(1)
path, model, cutting = sys.argv[1:]
transcriber = load_model(model or None, device="cpu", lm=False)
for segment in transcriber.stream(path, **json.loads(cutting)):
    pass
print(peak())
"""


@dataclass(frozen=True)
class Utterance:
    """Where an utterance stands in the joined recording, in samples, and what is said in it."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True)
class Pair:
    """A word of the utterances alone and the one of the long recording that it is aligned with; None: there is none."""

    alone: Word | None
    long: Word | None


def join(folder: Path, target: Path, minutes: float, pause: list[float], noise: float, seed: int) -> list[Utterance]:
    """Writes the joined recording as 16-bit WAV and returns what stands where."""
    random = np.random.default_rng(seed)
    with (folder / "transcripts.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    utterances: list[Utterance] = []
    written = 0
    with wave.open(str(target), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        while written < minutes * 60 * RATE:
            for number in random.permutation(len(rows)):
                silence = np.zeros(round(random.uniform(*pause) * RATE), np.float32)
                audio = load_audio(folder / rows[number]["file"])
                both = np.concatenate([silence, audio]) * 0.98
                both += 10 ** (noise / 20) * random.standard_normal(len(both)).astype(np.float32)
                out.writeframes(np.round(np.clip(both, -1, 1) * 32_767).astype("<i2").tobytes())
                written += len(both)
                utterances.append(Utterance(written - len(audio), written, rows[number]["text"]))
                if written >= minutes * 60 * RATE:
                    break
    return utterances


def samples(path: Path) -> NDArray[np.int16]:
    """Those of a WAV file, left on the disk."""
    return np.memmap(path, dtype="<i2", mode="r", offset=44)


def moved(word: Word, seconds: float) -> Word:
    return Word(word.text, word.start + seconds, word.end + seconds, word.probability)


def both_ways(
    transcriber: Transcriber, path: Path, utterances: list[Utterance], cutting: Cutting
) -> tuple[list[list[Word]], list[Word], float, float]:
    """Words of each utterance alone, those of the whole, and the CPU seconds of each way for a second of audio."""
    audio = samples(path)
    stream = transcriber.stream(path, **asdict(cutting))
    alone: list[list[Word]] = []
    whole: list[Word] = []
    times = {"alone": 0.0, "whole": 0.0}
    done, heard = False, 0
    for number, utterance in enumerate(utterances):
        begin, end = surroundings(utterances, number, len(audio))
        waveform = audio[begin:end].astype(np.float32) / 32_768
        begun = time.process_time()
        transcript = transcriber(waveform, sampling_rate=RATE)
        times["alone"] += time.process_time() - begun
        heard += len(waveform)
        alone.append([moved(word, begin / RATE) for word in transcript.words])
        is_last = number == len(utterances) - 1
        while not done and (is_last or not whole or whole[-1].end * RATE < utterance.stop):
            begun = time.process_time()
            segment = next(stream, None)
            times["whole"] += time.process_time() - begun
            done = segment is None
            whole += segment.words if segment is not None else ()
    return alone, whole, times["alone"] / heard * RATE, times["whole"] / len(audio) * RATE


def surroundings(utterances: list[Utterance], number: int, length: int) -> tuple[int, int]:
    """First sample and the one after the last of an utterance with as much of the pauses round it as a window has."""
    before = utterances[number - 1].stop if number else 0
    after = utterances[number + 1].start if number + 1 < len(utterances) else length
    pad = round(PAD * RATE)
    utterance = utterances[number]
    return max(before, utterance.start - pad), min(after, utterance.stop + pad)


def seams(transcriber: Transcriber, path: Path, cutting: Cutting) -> list[tuple[float, bool]]:
    """Where windows end, in seconds, and whether in a pause."""
    config = transcriber.model.config
    detector = voice_detector(cutting.vad, RATE)
    windower = Windower(cutting, rate=RATE, hop=config.hop_length, field=config.receptive_field, detector=detector)
    windows = [window for block in stream_audio(path) for window in windower.feed(block)] + windower.finish()
    return [(window.stop / RATE, window.closed) for window in windows]


def aligned(alone: list[Word], whole: list[Word]) -> Iterator[Pair]:
    """The words of both ways side by side."""
    output = jiwer.process_words(" ".join(word.text for word in alone), " ".join(word.text for word in whole))
    for chunk in output.alignments[0]:
        ours = alone[chunk.ref_start_idx : chunk.ref_end_idx]
        theirs = whole[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type in ("equal", "substitute"):
            yield from (Pair(one, other) for one, other in zip(ours, theirs, strict=True))
        else:
            yield from (Pair(word, None) for word in ours)
            yield from (Pair(None, word) for word in theirs)


def alike(pairs: Iterable[Pair]) -> list[tuple[Word, Word]]:
    """The words that both ways read alike."""
    return [(one.alone, one.long) for one in pairs if one.alone and one.long and one.alone.text == one.long.text]


def at_seams(pairs: list[Pair], places: list[float]) -> dict[str, int]:
    """Words near the places: how many there are, how many of them differ, are lost, added, or there twice.

    A word that the other way has a part of another word at its time isn't lost or added, but written in one or apart.
    """
    edges = np.array(places)
    counts = dict.fromkeys(("words", "differ", "in_one", "apart", "lost", "added", "doubled"), 0)
    before: Word | None = None
    for number, pair in enumerate(pairs):
        around = pairs[max(0, number - 2) : number + 3]
        word = pair.alone or pair.long
        assert word is not None
        middle = (word.start + word.end) / 2
        if len(edges) and np.abs(edges - middle).min() <= NEAR:
            counts["words"] += 1
            if pair.long is None:
                counts["in_one" if any(covers(other.long, middle) for other in around) else "lost"] += 1
            elif pair.alone is None:
                counts["apart" if any(covers(other.alone, middle) for other in around) else "added"] += 1
                counts["doubled"] += before is not None and before.text == pair.long.text
            elif pair.alone.text != pair.long.text:
                counts["differ"] += 1
        before = pair.long or before
    return counts


def covers(word: Word | None, second: float) -> bool:
    return word is not None and word.start <= second <= word.end


def onset(waveform: NDArray[np.float32]) -> int:
    """The first sample of the first 10 ms that are louder than a hundredth (40 dB below) of the loudest."""
    size = RATE // 100
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    power = np.square(frames).mean(axis=1)
    return int((power > power.max() / 10_000).argmax()) * size


def spread(errors: list[float]) -> str:
    if not errors:
        return "no words"
    milliseconds = np.abs(errors) * 1000
    return (
        f"mean absolute {milliseconds.mean():.1f} ms, 95th percentile {np.percentile(milliseconds, 95):.0f} ms, "
        f"mean {np.mean(errors) * 1000:+.1f} ms ({len(errors)} words)"
    )


def peak_of(path: Path, model: str | None, cutting: Cutting) -> int:
    """Bytes at the peak of a process that transcribes a file."""
    arguments = [str(path), model or "", json.dumps(asdict(cutting))]
    folder = Path(__file__).parent.parent
    command = [sys.executable, "-c", MEMORY, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout)


def first_minute(path: Path, target: Path) -> None:
    with wave.open(str(target), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples(path)[: 60 * RATE].tobytes())


def report(folder: Path, path: Path, model: str | None, cutting: Cutting, utterances: list[Utterance]) -> None:
    torch.set_num_threads(1)
    transcriber = load_model(model, device="cpu", lm=False)
    seconds = len(samples(path)) / RATE
    speech = sum(utterance.stop - utterance.start for utterance in utterances) / RATE
    print(f"{seconds / 60:.1f} min, {len(utterances)} utterances of {speech / 60:.1f} min; {cutting}")

    alone, whole, time_alone, time_whole = both_ways(transcriber, path, utterances, cutting)
    reference = [utterance.text for utterance in utterances]
    wer_alone = jiwer.wer(reference, [" ".join(word.text for word in words) for words in alone])
    wer_whole = jiwer.wer(" ".join(reference), " ".join(word.text for word in whole))
    one_text = jiwer.wer(" ".join(reference), " ".join(word.text for words in alone for word in words))
    audio = samples(path)
    tight = [
        transcriber(audio[utterance.start : utterance.stop].astype(np.float32) / 32_768, sampling_rate=RATE).text
        for utterance in utterances
    ]
    print(
        f"WER: alone {wer_alone:.2%} ({one_text:.2%} as one text), without silence round it "
        f"{jiwer.wer(reference, tight):.2%}, whole {wer_whole:.2%} (as one text)"
    )
    print(
        f"CPU time for a second of audio: alone {time_alone * 1000:.2f} ms, whole {time_whole * 1000:.2f} "
        f"(ratio {time_whole / time_alone:.3f})"
    )

    pairs = list(aligned([word for words in alone for word in words], whole))
    places = seams(transcriber, path, cutting)
    in_pauses = [place for place, closed in places[:-1] if closed]
    in_speech = [place for place, closed in places[:-1] if not closed]
    print(f"words of both ways: {at_seams(pairs, [number / 2 for number in range(round(seconds) * 2)])}")
    for name, chosen in (("in a pause", in_pauses), ("in speech", in_speech)):
        print(f"{len(chosen)} seams {name}, within {NEAR} s of them: {at_seams(pairs, chosen)}")

    print(f"word starts, whole against alone: {spread([heard.start - word.start for word, heard in alike(pairs)])}")
    first: list[float] = []
    begins = {id(words[0]): utterance for words, utterance in zip(alone, utterances, strict=True) if words}
    for word, heard in alike(pairs):
        if utterance := begins.get(id(word)):
            waveform = audio[utterance.start : utterance.stop].astype(np.float32)
            first.append(heard.start - (utterance.start + onset(waveform)) / RATE)
    texts = [utterance.text for utterance in utterances]
    lines = align(path, texts, model=transcriber, **asdict(cutting)).lines
    forced = [
        Word(word.text, word.start, word.end) for line in lines for word in line.words if not word.is_interpolated
    ]
    starts = [heard.start - word.start for word, heard in alike(aligned(forced, whole))]
    print(f"word starts, whole against the known texts' alignment: {spread(starts)}")
    print(f"first words, start in the whole against the known join and the utterance's onset: {spread(first)}")

    minute = path.with_name("minute.wav")
    first_minute(path, minute)
    short, long = peak_of(minute, model, cutting), peak_of(path, model, cutting)
    print(
        f"memory at the peak: 1 min {short / 2**20:.0f} MiB, {seconds / 60:.0f} min {long / 2**20:.0f} MiB, "
        f"{(long - short) / 2**20:+.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--pause", type=float, nargs=2, default=[0.3, 2.5], help="shortest and longest, in seconds")
    parser.add_argument("--noise", type=float, default=-60.0, help="level of the noise under all, in dB of full scale")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="folder or Hub repository; the shipped checkpoint by default")
    parser.add_argument("--window-seconds", type=float, default=Cutting.window_seconds)
    parser.add_argument("--context-seconds", type=float, default=Cutting.context_seconds)
    parser.add_argument("--pause-seconds", type=float, default=Cutting.pause_seconds)
    parser.add_argument("--vad", default=Cutting.vad)
    arguments = parser.parse_args()
    cutting = Cutting(
        window_seconds=arguments.window_seconds,
        context_seconds=arguments.context_seconds,
        pause_seconds=arguments.pause_seconds,
        vad=arguments.vad,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "joined.wav"
        utterances = join(
            arguments.recordings, path, arguments.minutes, arguments.pause, arguments.noise, arguments.seed
        )
        report(arguments.recordings, path, arguments.model, cutting, utterances)


if __name__ == "__main__":
    main()
