"""Open sentences: clauses of the King James Bible and of Debian's fortunes, cleaned to what the model can write."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import subprocess
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from wavconformer.errors import DataError

FORTUNES = Path("/usr/share/games/fortunes")

_LEAST, _MOST = 3, 20  # words of a sentence
_JOINED = 0.3  # share of clauses that the next one of their paragraph is joined to
# Pictures, program text, talk full of nicknames, and what isn't English.
_NO_PROSE = {"art", "ascii-art", "debian", "knghtbrd", "linux", "linuxcookie", "perl", "translate-me"}
# Read out otherwise than they are written.
_ABBREVIATION = re.compile(
    "mr|mrs|ms|dr|st|jr|sr|vs|etc|prof|inc|ltd|corp|dept|lt|sgt|capt|hon|esq|viz|ie|eg|cf|ed|op|cit|mt|ft|pp|vol|"
    "jan|feb|aug|sept|oct|nov|dec|ave|blvd|rd",
    re.IGNORECASE,
)
_SHOUTED = {"LORD", "LORD'S", "GOD", "GOD'S", "JEHOVAH", "JAH", "HOLY", "BRANCH"}  # the Bible's capitals
_ENDS = re.compile(r"--+|[.,;:?!()\[\]\"“”]+|\s'|'\s")
_WORDS = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")


def normalised(text: str) -> str:
    """Letters A-Z in capitals, apostrophes within words, one space between words; all else parts words."""
    return " ".join(_WORDS.findall(text.replace("’", "'"))).upper()


def clauses(paragraph: str, draw: random.Random) -> Iterator[str]:
    """Sentences of 3 to 20 words in a paragraph of prose, as `normalised` gives them.

    A paragraph is cut at its punctuation; some neighbours are joined again, as `draw` decides, so that there are long
    sentences too. Clauses are left out if a voice would read them otherwise than they are written: those with digits,
    signs, abbreviations, single letters, capitals within a word, or words without a vowel.
    """
    joined: list[str] = []
    for clause in _ENDS.split(paragraph.replace("’", "'")):
        if not clause.strip():
            continue
        words = _readable(clause)
        if joined and (not words or len(joined) + len(words) > _MOST):
            yield from _sentence(joined)
            joined = []
        joined = joined + words
        if joined and draw.random() >= _JOINED:
            yield from _sentence(joined)
            joined = []
    yield from _sentence(joined)


def _sentence(words: list[str]) -> Iterator[str]:
    if _LEAST <= len(words) <= _MOST:
        yield " ".join(words)


def _readable(clause: str) -> list[str]:
    """The words of a clause, none if it has something in it that isn't read as it is written."""
    tokens = clause.replace("-", " ").split()
    words = [token.strip("'") for token in tokens]
    return [word.upper() for word in words] if all(map(_is_readable, words)) else []


def _is_readable(word: str) -> bool:
    if not _WORDS.fullmatch(word) or re.search(r"(.)\1\1", word):
        return False
    if word[1:] != word[1:].lower() and word not in _SHOUTED:
        return False
    if len(word) == 1 and word not in ("a", "A", "I", "O"):
        return False
    return _ABBREVIATION.fullmatch(word) is None and re.search("[aeiouyAEIOUY]", word) is not None


def bible() -> Iterator[str]:
    """The verses of the King James Bible, as Debian's `bible` has them."""
    if shutil.which("bible") is None:
        raise DataError("The command 'bible' isn't there: apt-get install bible-kjv.")
    text = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        yield line.partition(" ")[2]


def fortunes(folder: Path = FORTUNES) -> Iterator[str]:
    """The prose of Debian's fortunes, without the names of who said it."""
    for text in texts_of(folder, _NO_PROSE, "fortunes fortunes-min"):
        for saying in re.split(r"^%$", text, flags=re.MULTILINE):
            said = re.split(r"^\s*--", saying, maxsplit=1, flags=re.MULTILINE)[0]
            yield from re.split(r"\n\s*\n", said)


def texts_of(folder: Path, left_out: Container[str], packages: str) -> Iterator[str]:
    """The files of a folder of Debian's fortunes, but those of these names.

    Raises DataError, with the packages to install, where there is nothing.
    """
    every = sorted(path for path in folder.glob("*") if path.is_file())  # other languages have folders of their own
    files = [path for path in every if not path.suffix and path.name not in left_out]
    if not files:
        raise DataError(f"There are no fortunes in '{folder}': apt-get install {packages}.")
    for path in files:
        yield path.read_text(encoding="utf-8", errors="replace")


def open_sentences(seed: int) -> tuple[list[str], list[str]]:
    """Distinct sentences of the Bible, and of the fortunes that are not in the Bible too; each in random order."""
    draw = random.Random(f"{seed} sentences")
    pools = []
    seen: set[str] = set()
    for source in (bible(), fortunes()):
        found = (sentence for paragraph in source for sentence in clauses(paragraph, draw))
        pool = [one for one in dict.fromkeys(found) if one not in seen]
        seen.update(pool)
        draw.shuffle(pool)
        pools.append(pool)
    return pools[0], pools[1]


class Exclusion:
    """Sentences that must not be trained on. A sentence is excluded if it holds one of them, or is within one.

    sentences: as they are, or in any case and punctuation.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = {words for words in map(normalised, sentences) if words}
        self._lengths = sorted({len(one.split()) for one in self.sentences})
        self._within = {part for one in self.sentences for part in _stretches(one, range(_LEAST, len(one.split())))}

    @classmethod
    def read(cls, files: Iterable[Path]) -> Exclusion:
        """The sentences of files: a table with a column `text` (.tsv, .csv), lines of JSON with `text`, or plain lines.

        Raises DataError for a file that can't be read, and for one without any sentence.
        """
        sentences: list[str] = []
        for path in files:
            try:
                found = list(_read(path))
            except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
                raise DataError(f"The sentences to exclude in '{path}' can't be read ({error}).") from error
            if not any(map(normalised, found)):
                raise DataError(f"'{path}' holds no sentence to exclude: a table must have a column 'text'.")
            sentences += found
        return cls(sentences)

    def __contains__(self, sentence: str) -> bool:
        words = normalised(sentence)
        return words in self._within or any(part in self.sentences for part in _stretches(words, self._lengths))


def _stretches(sentence: str, lengths: Iterable[int]) -> Iterator[str]:
    """All runs of so many words in a sentence."""
    words = sentence.split()
    for length in lengths:
        for first in range(len(words) - length + 1):
            yield " ".join(words[first : first + length])


def _read(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix in (".tsv", ".csv"):
            rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            yield from (row.get("text") or "" for row in rows)
        elif path.suffix == ".jsonl":
            yield from (json.loads(line).get("text") or "" for line in file if line.strip())
        else:
            yield from file
