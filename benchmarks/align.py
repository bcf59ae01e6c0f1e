"""Alignment of long recordings, joined of utterances with known texts.

    python -m benchmarks.align RECORDINGS [--minutes 60] [--set commands] [--model MODEL] [--seed 0]

RECORDINGS is a folder with a transcripts.tsv (columns: file, set, text). The utterances follow each other in random
order, as often as it takes, with pauses of random length. Then

- the starts of words are compared with those of each utterance aligned alone, moved by its known place;
- the starts of lines are compared with the place where the signal's own energy sets in after each join;
- the text is damaged (lines replaced by others, lines dropped, two words of a line swapped, lines added), and what
  `align` says of it is counted: bad lines, and speech that no line has.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import peak, start
from wavconformer import Transcriber, load_audio, load_model
from wavconformer.decoding.alignment import Alignment
from wavconformer.tasks.align import THRESHOLD, align

RATE = 16_000
PAUSES = (0.3, 1.2)  # seconds
NOISE = 1e-4
# Parts of the lines that are damaged in each way.
SHARE = 0.06


@dataclass(frozen=True)
class Utterance:
    file: str
    text: str
    samples: np.ndarray

    @property
    def onset(self) -> float:
        """Seconds until the first 10 ms whose energy is above a hundredth of the loudest tenth's."""
        frames = self.samples[: len(self.samples) // 160 * 160].reshape(-1, 160)
        energy = np.square(frames).mean(1)
        return int(np.argmax(energy > 0.01 * np.quantile(energy, 0.9))) * 0.01


@dataclass(frozen=True)
class Joined:
    """The samples (S,), and of each utterance in turn its number and the second that it begins at."""

    samples: np.ndarray
    order: list[int]
    starts: list[float]


def read(folder: Path, kind: str | None) -> list[Utterance]:
    with (folder / "transcripts.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if kind in (None, row["set"])]
    return [Utterance(row["file"], row["text"], load_audio(folder / row["file"])) for row in rows]


def join(utterances: Sequence[Utterance], minutes: float, random: np.random.Generator) -> Joined:
    parts, order, starts, length = [], [], [], 0
    while True:
        for number in random.permutation(len(utterances)).tolist():
            pause = random.standard_normal(round(random.uniform(*PAUSES) * RATE)).astype(np.float32) * NOISE
            parts += [pause, utterances[number].samples]
            order.append(number)
            starts.append((length + len(pause)) / RATE)
            length += len(pause) + len(parts[-1])
            if length >= minutes * 60 * RATE:
                return Joined(np.concatenate(parts), order, starts)


@dataclass(frozen=True)
class Damaged:
    """Lines, of each the kind of damage or None, and the turns whose lines are missing."""

    lines: list[str]
    kinds: list[str | None]
    dropped: list[int]
    replaced: list[int]


def damage(texts: Sequence[str], random: np.random.Generator, share: float = SHARE) -> Damaged:
    lines: list[str] = []
    kinds: list[str | None] = []
    dropped, replaced = [], []
    for turn, text in enumerate(texts):
        chance = random.random()
        other = texts[int(random.integers(len(texts)))]
        words = text.split()
        if chance < share and other != text:
            lines.append(other)
            kinds.append("replaced")
            replaced.append(turn)
        elif chance < 2 * share:
            dropped.append(turn)
        elif chance < 3 * share and len(words) > 3 and len(set(words)) == len(words):
            one, two = sorted(random.choice(len(words), 2, replace=False).tolist())
            words[one], words[two] = words[two], words[one]
            lines.append(" ".join(words))
            kinds.append("swapped")
        else:
            lines.append(text)
            kinds.append(None)
        if random.random() < share and other != text and kinds and kinds[-1] is None:
            lines.append(other)
            kinds.append("added")
    return Damaged(lines, kinds, dropped, replaced)


def found(alignment: Alignment, damaged: Damaged, joined: Joined, lengths: Sequence[float], threshold: float) -> dict:
    """Counts of what is damaged, of that what was found, and of what was found wrongly."""
    bad = {line.number - 1 for line in alignment.bad_lines(threshold)}
    counts = {}
    for kind in ("replaced", "swapped", "added"):
        numbers = {number for number, name in enumerate(damaged.kinds) if name == kind}
        counts[kind] = (len(numbers), len(numbers & bad))
    false = len({number for number in bad if damaged.kinds[number] is None})
    missing = {turn: (joined.starts[turn], joined.starts[turn] + lengths[turn]) for turn in damaged.dropped}
    allowed = [missing[turn] for turn in missing] + [
        (joined.starts[turn], joined.starts[turn] + lengths[turn]) for turn in damaged.replaced
    ]
    told = [*alignment.untranscribed, *alignment.bad_lines(threshold)]  # of a missing line its neighbours tell, too

    def meets(span, interval) -> bool:
        return span.start < interval[1] and span.end > interval[0]

    counts["dropped"] = (len(missing), sum(any(meets(span, place) for span in told) for place in missing.values()))
    false_spans = sum(not any(meets(span, place) for place in allowed) for span in alignment.untranscribed)
    hits = sum(hit for _, hit in counts.values())
    total = sum(count for count, _ in counts.values())
    return {
        **{kind: f"{hit} of {count}" for kind, (count, hit) in counts.items()},
        "false lines": false,
        "false stretches": false_spans,
        "precision": round(hits / max(hits + false + false_spans, 1), 3),
        "recall": round(hits / max(total, 1), 3),
    }


def errors_of_words(alignment: Alignment, joined: Joined, alone: Sequence[Alignment]) -> np.ndarray:
    """Seconds by which words start elsewhere than in the utterance alone; a minute where a line wasn't found."""
    errors = []
    for line, number, offset in zip(alignment.lines, joined.order, joined.starts, strict=True):
        for word, other in zip(line.words, alone[number].words, strict=True):
            errors.append(60.0 if line.is_interpolated else abs(word.start - other.start - offset))
    return np.array(errors)


def errors_of_lines(alignment: Alignment, joined: Joined, utterances: Sequence[Utterance]) -> np.ndarray:
    """Seconds by which lines start after the signal's onset."""
    return np.array(
        [
            line.start - offset - utterances[number].onset
            for line, number, offset in zip(alignment.lines, joined.order, joined.starts, strict=True)
            if not line.is_interpolated
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--set", help="take those of one set alone")
    parser.add_argument("--model", help="folder or Hub repository; the shipped checkpoint by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    arguments = parser.parse_args()

    transcriber: Transcriber = load_model(arguments.model, device="cpu", lm=False)
    utterances = read(arguments.recordings, arguments.set)
    random = np.random.default_rng(arguments.seed)
    joined = join(utterances, arguments.minutes, random)
    texts = [utterances[number].text for number in joined.order]
    alone = [align(one.samples, one.text, model=transcriber, sampling_rate=RATE) for one in utterances]

    start()
    before, begun = peak(), time.perf_counter()
    alignment = align(joined.samples, texts, model=transcriber, sampling_rate=RATE)
    seconds, most = time.perf_counter() - begun, peak()
    words = errors_of_words(alignment, joined, alone)
    lines = errors_of_lines(alignment, joined, utterances)
    results = {
        "minutes": round(alignment.duration / 60, 1),
        "lines": len(alignment.lines),
        "seconds": round(seconds, 1),
        "MiB above the start": round((most - before) / 2**20),
        "is proven": alignment.is_optimal,
        "score": alignment.score,
        "lines left out": sum(line.is_interpolated for line in alignment.lines),
        "word starts, error, ms": _quantiles(words),
        "line starts after the onset, ms": _quantiles(np.abs(lines)),
        "line starts after the onset, median with its sign, ms": round(float(np.median(lines)) * 1000),
    }
    damaged = damage(texts, random)
    lengths = [len(utterances[number].samples) / RATE for number in joined.order]
    again = align(joined.samples, damaged.lines, model=transcriber, sampling_rate=RATE)
    results["damaged lines"] = found(again, damaged, joined, lengths, arguments.threshold)
    print(json.dumps(results, indent=2))
    return 0


def _quantiles(errors: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.quantile(errors, q)) * 1000, 1) for name, q in (("median", 0.5), ("95 %", 0.95))}


if __name__ == "__main__":
    sys.exit(main())
