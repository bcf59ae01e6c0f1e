"""Makes the corpus of the recipe: people, noises and rooms, as folders that `wavconformer finetune` reads, and trials.

    python recipes/speakers/corpus.py OUT --utterances 8 --seed 0 --workers 2 [--exclude FILE]

The same seed, engines and excluded sentences give the same corpus. A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from wavconformer.data.manifest import MANIFEST_FILE
from wavconformer.files import write_json
from wavconformer.training.augmentation import add_noise

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny-en"))  # whose voices, texts and noises these are
sys.path.insert(0, str(Path(__file__).parent))  # for workers that are started anew
from parts import Samples, Take, check_heading, finish, make_parts, number_of, part_count, telling, write_part
from people import Person, everybody, manner, spoken
from sentences import Exclusion, open_sentences
from surroundings import CONDITIONS, write_surroundings
from voices import Manner, Speaker, require

VERSION = 1
"""Goes up when the same seed gives another corpus."""

UNHEARD = ("dev", "test")  # sets of people who are never trained on
UNHEARD_UTTERANCES = 10  # of each of them
VALIDATION_UTTERANCES = 2  # of each person that is trained on
LETTERS = (30, 90)  # of a sentence: about 1.5 to 4.5 s
NOISES, ROOMS = 40, 60
LEVELS_DB = (-15.0, 0.0)
CLEAN = "clean"


@dataclass(frozen=True)
class Line:
    """What is said: by whom, how, and under which condition."""

    id: str
    text: str
    person: Person
    manner: Manner
    level_db: float
    condition: str


def script(seed: int, utterances: int, exclusion: Exclusion) -> dict[str, list[Line]]:
    """All that is said, by set. Those that are held out come first, so that more utterances change nothing in them."""
    pools = [[one for one in pool if one not in exclusion] for pool in open_sentences(seed)]
    texts = [text for pair in zip(*pools, strict=False) for text in pair if LETTERS[0] <= len(text) <= LETTERS[1]]
    people = everybody(seed)
    sets = {name: (people[name], UNHEARD_UTTERANCES) for name in UNHEARD}
    sets["valid"] = people["train"], VALIDATION_UTTERANCES
    held_out = sum(len(some) * count for some, count in sets.values())
    unseen, known = iter(texts[:held_out]), cycle(texts[held_out:])
    lines = {name: _lines(name, some, count, unseen, seed) for name, (some, count) in sets.items()}
    return {**lines, "train": _lines("train", people["train"], utterances, known, seed)}


def _lines(name: str, people: Sequence[Person], utterances: int, texts: Iterator[str], seed: int) -> list[Line]:
    """Each round everybody says something; under a condition in every other round of the sets that are held out."""
    draw = random.Random(f"{seed} {name}")
    conditions = sorted(CONDITIONS)
    lines = []
    for number in range(utterances):
        for index, person in enumerate(people):
            condition = draw.choice(conditions) if name in UNHEARD and number % 2 else CLEAN
            key = f"{name}-{index:04d}-{number:02d}-{condition}"
            lines.append(Line(key, next(texts), person, manner(person, draw), draw.uniform(*LEVELS_DB), condition))
    return lines


def make(
    out: Path, utterances: int, seed: int, workers: int, exclusion: Exclusion, console: Console | None = None
) -> dict[str, Any]:
    """Makes or completes the corpus in the folder `out`; returns what its report.json says.

    Raises DataError where an engine or a text is missing, and where the folder holds a corpus of something else.
    """
    require([person.voice for people in everybody(seed).values() for person in people])
    digest = hashlib.sha256("\n".join(sorted(exclusion.sentences)).encode()).hexdigest()
    check_heading(out, {"version": VERSION, "seed": seed, "utterances": utterances, "excluded_sha256": digest})
    sets = script(seed, utterances, exclusion)
    make_parts(make_part, out, sets, seed, workers, console)
    for name, lines in sets.items():
        finish(out / name, part_count(lines))
    _make_surroundings(out, seed, sets["train"])
    report = {name: _report(out / name) for name in sets}
    write_json(out / "report.json", report)
    return report


def make_part(folder: Path, number: int, lines: list[Line], seed: int) -> None:
    """Speaks the lines of a part."""
    write_part(folder, number, _takes(Speaker(number_of(seed, folder.name, number)), lines, seed))


def _takes(speaker: Speaker, lines: list[Line], seed: int) -> Iterator[Take]:
    for line in lines:
        samples = spoken(speaker, line.person, line.manner, line.text)
        random_ = np.random.default_rng(number_of(seed, line.id))
        if line.condition != CLEAN:
            samples = CONDITIONS[line.condition](samples, random_)
        # No synthesiser's own silence may tell it.
        samples = add_noise(samples, random_.standard_normal(len(samples)).astype(np.float32), random_.uniform(35, 50))
        who = str(line.person)
        yield Take(line.id, samples, line.level_db, line.text, speaker=who, label=who)


def _make_surroundings(out: Path, seed: int, lines: Sequence[Line]) -> None:
    """Writes the noises and rooms that training mixes in."""
    random_ = np.random.default_rng(number_of(seed, "surroundings"))
    draw, speaker = random.Random(f"{seed} babble"), Speaker(seed)
    talkers = [line for line in lines if line.person.voice.engine != "piper"]

    def talk() -> list[Samples]:
        some = draw.sample(talkers, draw.randint(3, 7))
        return [spoken(speaker, one.person, one.manner, one.text) for one in some]

    write_surroundings(out, NOISES, ROOMS, 20.0, random_, talk)


def _report(folder: Path) -> dict[str, Any]:
    entries = [json.loads(line) for line in (folder / MANIFEST_FILE).read_text(encoding="utf-8").splitlines()]
    seconds = sum(entry["seconds"] for entry in entries)
    speakers = {entry["speaker"] for entry in entries}
    return {"utterances": len(entries), "hours": round(seconds / 3600, 3), "speakers": len(speakers)}


def main(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    utterances: Annotated[int, typer.Option(min=2, help="Of each person that is trained on.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that speak.")] = 2,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Sentences never to use: a table or JSONL with 'text', or plain lines."),
    ] = None,
) -> None:
    """Make a corpus of hundreds of synthetic speakers, with noises and rooms, and sets to validate and test on."""
    console = Console(stderr=True)
    with telling(console):
        report = make(out, utterances, seed, workers, Exclusion.read(exclude or []), console)
    for name, part in report.items():
        typer.echo(
            f"{name:8s} {part['speakers']:5d} speakers {part['utterances']:7,d} utterances {part['hours']:6.2f} h"
        )


if __name__ == "__main__":
    typer.run(main)
