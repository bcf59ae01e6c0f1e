"""Makes the corpus of the recipe: text, voices, noises and rooms, as folders that `wavconformer finetune` reads.

    python recipes/tiny-en/corpus.py OUT --hours 30 --seed 0 --workers 2 [--exclude FILE]

The same seed, engines and excluded sentences give the same corpus. A run that was interrupted goes on where it stopped,
and more hours with the same seed add to what is there.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from wavconformer.data.manifest import MANIFEST_FILE
from wavconformer.files import write_json

sys.path.insert(0, str(Path(__file__).parent))  # for workers that are started anew
from commands import phrase
from parts import PART, Samples, Take, check_heading, finish, make_parts, number_of, part_count, telling, write_part
from sentences import Exclusion, open_sentences
from surroundings import CONDITIONS, write_surroundings
from voices import TRAINING, UNHEARD, Manner, Speaker, Voice, expected_seconds, manner, require

VERSION = 1
"""Goes up when the same seed gives another corpus."""

KINDS = ("commands", "open")
COMMANDS = 0.3  # share of utterances; the others are open sentences
BIBLE = 0.55  # share of open sentences
VALIDATION = 200  # sentences of each kind
TEST = 60  # sentences of each kind, for each voice and condition
NOISES, ROOMS = 40, 80
LEVELS_DB = (-12.0, 0.0)


@dataclass(frozen=True)
class Line:
    """What is to be said: by whom, how, and under which condition of the tests."""

    id: str
    text: str
    kind: str
    voice: Voice
    manner: Manner
    level_db: float
    condition: str | None = None


class Script:
    """All that is to be said, drawn from a seed: the sets that are held out first, and then training without end."""

    def __init__(self, seed: int, exclusion: Exclusion) -> None:
        self._seed = seed
        bible, fortunes = ([one for one in pool if one not in exclusion] for pool in open_sentences(seed))
        self.open_count = len(bible) + len(fortunes)
        self._exclusion = exclusion
        self._held_out: set[str] = set()
        draw = self._draw("held out")
        sources = iter(bible), iter(fortunes)
        self.sets: dict[str, list[Line]] = {"valid": self._held_out_set("valid", TRAINING, VALIDATION, sources, draw)}
        for voice in UNHEARD:
            name = f"test-voice-{str(voice).replace(' ', '-').replace('+', '-').lower()}"
            self.sets[name] = self._held_out_set(name, (voice,), TEST, sources, draw)
        for condition in CONDITIONS:
            name = f"test-{condition}"
            self.sets[name] = self._held_out_set(name, TRAINING, TEST, sources, draw, condition)
        self._bible, self._fortunes = list(sources[0]), list(sources[1])

    def training(self, hours: float) -> list[Line]:
        """The first lines of training, as many as last about so many hours, in whole parts."""
        lines: list[Line] = []
        seconds = 0.0
        for line in self._training():
            if seconds >= hours * 3600 and len(lines) % PART == 0:
                return lines
            lines.append(line)
            seconds += expected_seconds(line.voice, line.manner, line.text)
        raise AssertionError("training ends never")

    def _training(self) -> Iterator[Line]:
        draw, sources = self._draw("training"), (cycle(self._bible), cycle(self._fortunes))
        number = 0
        while True:
            is_command = draw.random() < COMMANDS
            text = self._command(draw) if is_command else self._open(sources, draw)
            kind = KINDS[not is_command]
            yield self._line(f"train-{number:06d}", text, kind, _voice(TRAINING, draw), draw)
            number += 1

    def _held_out_set(
        self,
        name: str,
        voices: tuple[Voice, ...],
        count: int,
        sources: tuple[Iterator[str], Iterator[str]],
        draw: random.Random,
        condition: str | None = None,
    ) -> list[Line]:
        lines = []
        for number in range(2 * count):
            kind = KINDS[number >= count]
            text = self._command(draw) if kind == "commands" else self._open(sources, draw)
            self._held_out.add(text)
            lines.append(self._line(f"{name}-{number:04d}", text, kind, _voice(voices, draw), draw, condition))
        return lines

    def _line(
        self, name: str, text: str, kind: str, voice: Voice, draw: random.Random, condition: str | None = None
    ) -> Line:
        return Line(name, text, kind, voice, manner(voice, draw), draw.uniform(*LEVELS_DB), condition)

    def _command(self, draw: random.Random) -> str:
        while (text := phrase(draw)) in self._held_out or text in self._exclusion:
            pass
        return text

    @staticmethod
    def _open(sources: tuple[Iterator[str], Iterator[str]], draw: random.Random) -> str:
        return next(sources[0 if draw.random() < BIBLE else 1])

    def _draw(self, purpose: str) -> random.Random:
        return random.Random(f"{self._seed} {purpose}")


def _voice(voices: tuple[Voice, ...], draw: random.Random) -> Voice:
    (voice,) = draw.choices(voices, [voice.weight for voice in voices])
    return voice


def make(
    out: Path, hours: float, seed: int, workers: int, exclusion: Exclusion, console: Console | None = None
) -> dict[str, Any]:
    """Makes or completes the corpus in the folder `out`; returns what its report.json says.

    Raises DataError where an engine or a text is missing, and where the folder holds a corpus of something else.
    """
    require((*TRAINING, *UNHEARD))
    check_heading(out, _heading(seed, exclusion))
    script = Script(seed, exclusion)
    sets = {**script.sets, "train": script.training(hours)}
    make_parts(_make_part, out, sets, seed, workers, console)
    _make_surroundings(out, seed)
    for name, lines in sets.items():
        finish(out / name, part_count(lines), KINDS)
    report = _report(out, list(sets), script)
    write_json(out / "report.json", report)
    return report


def _heading(seed: int, exclusion: Exclusion) -> dict[str, Any]:
    digest = hashlib.sha256("\n".join(sorted(exclusion.sentences)).encode()).hexdigest()
    return {"version": VERSION, "seed": seed, "excluded": len(exclusion.sentences), "excluded_sha256": digest}


def _make_part(folder: Path, number: int, lines: list[Line], seed: int) -> None:
    """Speaks the lines of a part."""
    write_part(folder, number, _takes(Speaker(number_of(seed, folder.name, number)), lines, seed))


def _takes(speaker: Speaker, lines: list[Line], seed: int) -> Iterator[Take]:
    for line in lines:
        samples = speaker(line.voice, line.manner, line.text)
        if line.condition is not None:
            samples = CONDITIONS[line.condition](samples, np.random.default_rng(number_of(seed, line.id)))
        yield Take(line.id, samples, line.level_db, line.text, str(line.voice), line.kind)


def _make_surroundings(out: Path, seed: int) -> None:
    """Writes the noises and rooms that training mixes in."""
    random_ = np.random.default_rng(number_of(seed, "surroundings"))
    draw, speaker = random.Random(f"{seed} babble"), Speaker(seed)
    talkers = [voice for voice in TRAINING if voice.engine != "piper"]

    def talk() -> list[Samples]:
        some = [_voice(tuple(talkers), draw) for _ in range(draw.randint(3, 7))]
        return [speaker(one, manner(one, draw), " ".join(phrase(draw) for _ in range(4))) for one in some]

    write_surroundings(out, NOISES, ROOMS, 20.0, random_, talk)


def _report(out: Path, names: list[str], script: Script) -> dict[str, Any]:
    """What the corpus is made of."""
    report: dict[str, Any] = {"open_sentences": script.open_count}
    for name in names:
        by_voice: Counter[str] = Counter()
        by_kind: Counter[str] = Counter()
        letters: Counter[str] = Counter()
        texts: set[str] = set()
        words: set[str] = set()
        count = 0
        with (out / name / MANIFEST_FILE).open(encoding="utf-8") as manifest:
            for entry in map(json.loads, manifest):
                count += 1
                by_voice[_group(entry["speaker"])] += entry["seconds"]
                by_kind[entry["label"]] += entry["seconds"]
                letters.update(entry["text"])
                texts.add(entry["text"])
                words.update(entry["text"].split())
        report[name] = {
            "utterances": count,
            "hours": round(by_kind.total() / 3600, 3),
            "hours_by_voice": {voice: round(value / 3600, 3) for voice, value in by_voice.most_common()},
            "hours_by_kind": {kind: round(value / 3600, 3) for kind, value in by_kind.most_common()},
            "distinct_texts": len(texts),
            "distinct_words": len(words),
            "characters": dict(letters.most_common()),
        }
    return report


_OWN_GROUP = {str(voice) for voice in (*TRAINING, *UNHEARD) if voice.weight >= 1}


def _group(voice: str) -> str:
    return voice if voice in _OWN_GROUP else "espeak-ng, others"


def main(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    hours: Annotated[float, typer.Option(min=0.01, help="Hours to train on, about.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that speak.")] = 2,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Sentences never to train on: a table or JSONL with 'text', or plain lines."),
    ] = None,
) -> None:
    """Make a corpus of synthetic English speech, with noises and rooms, and sets to validate and test on."""
    console = Console(stderr=True)
    with telling(console):
        report = make(out, hours, seed, workers, Exclusion.read(exclude or []), console)
    for name, part in report.items():
        if isinstance(part, dict):
            typer.echo(f"{name:40s} {part['utterances']:7,d} utterances {part['hours']:8.2f} h")


if __name__ == "__main__":
    typer.run(main)
