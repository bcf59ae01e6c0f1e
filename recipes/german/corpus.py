"""Makes German speech that tiny-en is taught with: sentences of Debian's fortunes-de in voices of espeak-ng.

    python recipes/german/corpus.py OUT --hours 2 --seed 0 --workers 2

The same seed and engine give the same corpus. A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wavconformer.data.prepare import build_tokenizer
from wavconformer.errors import DataError
from wavconformer.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny-en"))  # whose parts and voices these are
from parts import Take, check_heading, finish, make_parts, number_of, part_count, telling, write_part
from sentences import texts_of
from voices import Manner, Speaker, Voice, expected_seconds, manner, require

VERSION = 1
"""Goes up when the same seed gives another corpus."""

FORTUNES = Path("/usr/share/games/fortunes/de")
HELD_OUT = 150  # sentences of each set that is never trained on
LEAST, MOST = 3, 12  # words of a sentence
LEVELS_DB = (-12.0, 0.0)
_SPEAKERS = ("de", "de+m3", "de+m5", "de+f2", "de+f4", "de+Alex", "de+anika")
VOICES = tuple(Voice("espeak-ng", name, 1) for name in _SPEAKERS)
UNHEARD = (Voice("espeak-ng", "de+Andrea", 1), Voice("espeak-ng", "de+victor", 1))

_NO_PROSE = {"asciiart", "channel-debian.fortunes", "translations", "woerterbuch", "tips"}
_ENDS = re.compile(r"--+|[.,;:?!()\[\]\"“”„«»]+|\s['-]|['-]\s|\n\s*\n")
_WORD = re.compile(r"[a-zäöüß]{2,}|[A-ZÄÖÜ][a-zäöüß]+")


@dataclass(frozen=True)
class Line:
    """What is to be said, and by whom."""

    id: str
    text: str
    voice: Voice
    manner: Manner
    level_db: float


def sentences(seed: int, folder: Path = FORTUNES) -> list[str]:
    """Distinct clauses in small letters, in random order. Raises DataError where Debian's package isn't there."""
    sayings = (saying for text in texts_of(folder, _NO_PROSE, "fortunes-de") for saying in text.split("\n%\n"))
    found = list(dict.fromkeys(clause for saying in sayings for clause in clauses(saying)))
    random.Random(f"{seed} sentences").shuffle(found)
    return found


def clauses(text: str) -> Iterator[str]:
    """What stands between marks, where it is of words that are read as they are written."""
    for clause in _ENDS.split(text):
        words = clause.split()
        if LEAST <= len(words) <= MOST and all(map(_WORD.fullmatch, words)):
            yield " ".join(words).lower()


def script(seed: int, hours: float) -> dict[str, list[Line]]:
    """All that is to be said, by set; no sentence is in two of them."""
    pool = sentences(seed)
    valid, unheard, rest = pool[:HELD_OUT], pool[HELD_OUT : 2 * HELD_OUT], pool[2 * HELD_OUT :]
    if not rest:
        raise DataError(f"'{FORTUNES}' has only {len(pool)} sentences to read out: is it Debian's fortunes-de?")
    train: list[Line] = []
    seconds = 0.0
    for line in _lines("train", cycle(rest), VOICES, seed):
        train.append(line)
        seconds += expected_seconds(line.voice, line.manner, line.text)
        if seconds >= hours * 3600:
            break
    return {
        "valid": list(_lines("valid", valid, VOICES, seed)),
        "test-unheard": list(_lines("test-unheard", unheard, UNHEARD, seed)),
        "train": train,
    }


def _lines(name: str, texts: Iterable[str], voices: tuple[Voice, ...], seed: int) -> Iterator[Line]:
    draw = random.Random(f"{seed} {name}")
    for number, text in enumerate(texts):
        voice = draw.choice(voices)
        yield Line(f"{name}-{number:06d}", text, voice, manner(voice, draw), draw.uniform(*LEVELS_DB))


def _make_part(folder: Path, number: int, lines: list[Line], seed: int) -> None:
    """Speaks the lines of a part."""
    speaker = Speaker(number_of(seed, folder.name, number))
    takes = (
        Take(line.id, speaker(line.voice, line.manner, line.text), line.level_db, line.text, str(line.voice), "")
        for line in lines
    )
    write_part(folder, number, takes)


def make(out: Path, hours: float, seed: int, workers: int, console: Console | None = None) -> dict[str, int]:
    """Makes or completes the corpus in the folder `out`; returns how many utterances each set has.

    Raises DataError where the engine or the text is missing, and where the folder holds a corpus of something else.
    """
    require((*VOICES, *UNHEARD))
    check_heading(out, {"version": VERSION, "seed": seed})
    sets = script(seed, hours)
    make_parts(_make_part, out, sets, seed, workers, console)
    for name, lines in sets.items():
        finish(out / name, part_count(lines))
    letters = Counter(letter for line in sets["train"] for letter in line.text)
    write_json(out / "vocab.json", build_tokenizer(letters).get_vocab())
    return {name: len(lines) for name, lines in sets.items()}


def main(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    hours: Annotated[float, typer.Option(min=0.01, help="Hours to train on, about.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that speak.")] = 2,
) -> None:
    """Make a corpus of synthetic German speech, with a vocabulary, and sets to validate and test on."""
    console = Console(stderr=True)
    with telling(console):
        counts = make(out, hours, seed, workers, console)
    for name, count in counts.items():
        typer.echo(f"{name:16s} {count:7,d} utterances")


if __name__ == "__main__":
    typer.run(main)
