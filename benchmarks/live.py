"""Live transcription at the pace of speech: delays, equality with offline, memory.

    python -m benchmarks.live RECORDINGS [--minutes 10] [--speed 1] [--chunk 0.1] [--model MODEL] [--lm none]
                              [--vad silero] …

RECORDINGS is a folder with a transcripts.tsv (columns: file, text). Its utterances, in drawn order, are joined with
pauses of drawn length and faint noise under all, as in `benchmarks.long`, and fed in chunks, each when its last sample
would have been spoken. The delay of a word is from its end to the moment at which the call returns that gives it as
final. It has two parts: the audio that had to be heard, which is the same on any machine, and the time that chunks
waited and were computed. What another machine does, and other work on this one, is in the second alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch

from benchmarks.long import RATE, join, samples
from wavconformer import FinalWords, PartialWords, StreamingTranscriber, Word, load_model
from wavconformer.tasks.search import described


@dataclass(frozen=True)
class Told:
    """A final word. heard: seconds of audio that had come in by then; at: seconds since the stream's start."""

    word: Word
    heard: float
    at: float


def resident() -> float:
    """MiB of memory that this process holds (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def percentiles(values: list[float]) -> str:
    return (
        f"median {np.median(values):.2f} s, 95th percentile {np.percentile(values, 95):.2f} s, most {max(values):.2f} s"
    )


def seen(partials: list[PartialWords], words: list[Told]) -> list[float]:
    """Audio that had been heard after a word's end when it was shown first, the same as it became, or was final."""
    delays = []
    for told in words:
        shown = told.heard
        for partial in partials:
            near = (word for word in partial.words if abs(word.start - told.word.start) < 0.3)
            if partial.heard < shown and any(word.text == told.word.text for word in near):
                shown = partial.heard
        delays.append(shown - told.word.end)
    return delays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--speed", type=float, default=1.0, help="so many times as fast as it is spoken")
    parser.add_argument("--chunk", type=float, default=0.1, help="seconds")
    parser.add_argument("--pause", type=float, nargs=2, default=[0.7, 2.5], help="shortest and longest, in seconds")
    parser.add_argument("--noise", type=float, default=-60.0, help="level of the noise under all, in dB of full scale")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="folder or Hub repository; the shipped checkpoint by default")
    parser.add_argument("--lm", help="none for greedy decoding, or another language model than the checkpoint's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--partial-seconds", type=float, default=0.6)
    for name in ("window", "context", "lookahead", "pause"):
        parser.add_argument(f"--{name}-seconds", type=float, default=argparse.SUPPRESS)
    parser.add_argument("--vad", default=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cutting = {name: value for name, value in vars(arguments).items() if name == "vad" or name.endswith("_seconds")}
    lm = {None: True, "none": False}.get(arguments.lm, arguments.lm)
    transcriber = load_model(arguments.model, device="cpu", lm=lm)
    print(f"decoding: {described(transcriber.decoder)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "joined.wav"
        utterances = join(
            arguments.recordings, path, arguments.minutes, arguments.pause, arguments.noise, arguments.seed
        )
        audio = samples(path)
        live = StreamingTranscriber(transcriber, **cutting)
        print(f"{len(audio) / RATE / 60:.1f} min, {len(utterances)} utterances; {live.cutting}")

        size = round(arguments.chunk * RATE)
        words: list[Told] = []
        partials: list[PartialWords] = []
        memory: list[float] = []
        held = waited = 0.0
        cpu, begun = time.process_time(), time.perf_counter()
        for number, start in enumerate(range(0, len(audio), size)):
            chunk = audio[start : start + size].astype(np.float32) / 32_768
            spoken = begun + (start + len(chunk)) / RATE / arguments.speed
            time.sleep(max(0.0, spoken - time.perf_counter()))
            events = live.feed(chunk)
            if start + size >= len(audio):
                events += live.close()
            at = time.perf_counter() - begun
            waited = max(waited, at - (start + len(chunk)) / RATE / arguments.speed)
            for event in events:
                if isinstance(event, FinalWords):
                    words += (Told(word, event.heard, at) for word in event.words)
                elif isinstance(event, PartialWords):
                    partials.append(event)
            held = max(held, live.held)
            if number % 50 == 0:
                memory.append(resident())
        cpu = time.process_time() - cpu

        whole = [told.at - told.word.end / arguments.speed for told in words]
        print(f"a word's end to its final text ({len(words)} words): {percentiles(whole)}")
        print(f"  of that audio that had to be heard: {percentiles([told.heard - told.word.end for told in words])}")
        computed = [told.at - told.heard / arguments.speed for told in words]
        print(f"  and waiting and computing: {percentiles(computed)}; a chunk was late by {waited:.2f} s at most")
        print(f"a word's end to where it is seen first, audio alone: {percentiles(seen(partials, words))}")
        print(
            f"CPU time for a second of audio: {cpu / len(audio) * RATE * 1000:.0f} ms, {len(partials)} partial results"
        )
        thirds = [memory[min(5, len(memory) - 1)], memory[len(memory) // 2], memory[-1]]
        print(
            f"memory near the start, in the middle, at the end: {', '.join(f'{part:.0f}' for part in thirds)} MiB; "
            f"at most {held:.1f} s of audio held"
        )

        stream = transcriber.stream(path, **asdict(live.cutting))
        offline = [word for segment in stream for word in segment.words]
        same = [(told.word.text, told.word.start, told.word.end) for told in words] == [
            (word.text, word.start, word.end) for word in offline
        ]
        print(f"equal to offline, words and times: {same} ({len(offline)} words)")
        reference = " ".join(utterance.text for utterance in utterances)
        usual = [word.text for segment in transcriber.stream(path) for word in segment.words]
        print(
            f"WER: live {jiwer.wer(reference, ' '.join(told.word.text for told in words)):.2%}, "
            f"offline with its own windows {jiwer.wer(reference, ' '.join(usual)):.2%}"
        )


if __name__ == "__main__":
    main()
