"""How a text is spelled in a model's labels, and which of its characters each label stands for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wavconformer.decoding.numerals import Numerals
from wavconformer.processing import Wav2Vec2CTCTokenizer

# In place of a label where something is said that the vocabulary can't spell.
WILDCARD = -1

# Letters that Unicode doesn't take apart, and marks that stand for another.
_ALIKE = str.maketrans(
    {"’": "'", "ʼ": "'", "‘": "'", "`": "'", "´": "'", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ð": "d"}
    | {"Æ": "AE", "Œ": "OE", "Ø": "O", "Đ": "D", "Ł": "L", "Ð": "D", "þ": "th", "Þ": "TH", "ı": "i"}
)


@dataclass(frozen=True)
class Spelling:
    """A word as it is written and as it is spelled.

    text: as written, marks and all. labels: ids of the vocabulary, or WILDCARD. places: of each label the place in
    `text` of the character that it stands for, None where it stands for no single one. others: further ways to read it.
    """

    text: str
    labels: tuple[int, ...]
    places: tuple[int | None, ...]
    others: tuple[Spelling, ...] = ()

    @property
    def is_wildcard(self) -> bool:
        """Whether nothing of it can be spelled."""
        return all(label == WILDCARD for label in self.labels)


class Speller:
    """Spells words with the labels of a tokenizer.

    Letters are tried as they are, in the other case, and without their accents. Marks are left out, but hyphens and
    slashes part words. Digits and signs, if the vocabulary lacks them, are read out in the `language` of `numerals`;
    without one, and where nothing else helps, they become a wildcard.
    """

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer, numerals: Numerals | None = None) -> None:
        vocabulary = tokenizer.get_vocab()
        special = {*tokenizer.all_special_tokens, tokenizer.word_delimiter_token}
        self._ids = {token: index for token, index in vocabulary.items() if len(token) == 1 and token not in special}
        self._numerals = numerals
        self._known: dict[str, tuple[int, ...] | None] = {}
        self.delimiter = vocabulary.get(tokenizer.word_delimiter_token or "")

    def words(self, line: str) -> list[Spelling]:
        """The words of a line, parted by white space; a mark that stands alone goes with the word before it."""
        found: list[Spelling] = []
        waiting = ""
        for token in line.split():
            spelling = self.word(token)
            if spelling.labels:
                found.append(_moved(spelling, waiting) if waiting else spelling)
                waiting = ""
            elif found:
                found[-1] = _followed(found[-1], token)
            else:
                waiting = f"{waiting}{token} "
        return found

    def word(self, token: str) -> Spelling:
        """One word, without labels where nothing in it is said."""
        first, *others = (self._spelled(token, reading) for reading in self._readings(token))
        different = {other.labels: other for other in others if other.labels != first.labels}
        return Spelling(token, first.labels, first.places, tuple(different.values()))

    def _readings(self, token: str) -> Iterator[list[tuple[str, int | None]]]:
        """Ways to read a token: pieces of text, each with its place in the token or None where it is read out."""
        if self._numerals is None or any(sign in self._ids for sign in token if sign.isdecimal()):
            yield [(token, 0)]
            return
        yield from self._numerals.readings(token)

    def _spelled(self, token: str, pieces: Iterable[tuple[str, int | None]]) -> Spelling:
        labels: list[int] = []
        places: list[int | None] = []
        has_gap = False
        for text, start in pieces:
            has_gap = has_gap or start is None  # what is read out is a word of its own
            for offset, sign in enumerate(text):
                ids = self._letter(sign, inside=_is_inside(text, offset))
                if ids is None:
                    has_gap = has_gap or _parts(sign)
                    continue
                if ids == (WILDCARD,) and labels and labels[-1] == WILDCARD and not has_gap:
                    continue  # one wildcard for a run of what can't be spelled
                if has_gap and labels and self.delimiter is not None:
                    labels.append(self.delimiter)
                    places.append(None)
                has_gap = False
                labels.extend(ids)
                places.extend([None if start is None else start + offset] * len(ids))
            has_gap = has_gap or start is None
        return Spelling(token, tuple(labels), tuple(places))

    def _letter(self, sign: str, *, inside: bool) -> tuple[int, ...] | None:
        """The labels of a character; None for one that isn't said."""
        if sign.translate(_ALIKE) == "'" and not inside:
            return None
        if sign not in self._known:
            self._known[sign] = self._looked_up(sign)
        return self._known[sign]

    def _looked_up(self, sign: str) -> tuple[int, ...] | None:
        for form in (sign, sign.translate(_ALIKE), _bare(sign)):
            for cased in (form, form.upper(), form.lower(), form.casefold()):
                if cased and all(letter in self._ids for letter in cased):
                    return tuple(self._ids[letter] for letter in cased)
        return (WILDCARD,) if unicodedata.category(sign)[0] in "LN" or sign in _SAID else None


# Signs that are said, though they are no letters or digits. Currencies are among them.
_SAID = set("&%+=@°§#£$€¥₹₽₩¢")


def _bare(sign: str) -> str:
    """A letter without its accents, and its compatible form."""
    parts = unicodedata.normalize("NFKD", sign)
    return "".join(part for part in parts if not unicodedata.combining(part)).translate(_ALIKE)


def _parts(sign: str) -> bool:
    """Whether a mark within a word parts it in two."""
    return sign.isspace() or unicodedata.category(sign) == "Pd" or sign in "/\\_…"


def _is_inside(text: str, place: int) -> bool:
    return 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()


def _moved(spelling: Spelling, before: str) -> Spelling:
    """The spelling with `before` in front of its text."""
    places = tuple(None if place is None else place + len(before) for place in spelling.places)
    others = tuple(_moved(other, before) for other in spelling.others)
    return Spelling(before + spelling.text, spelling.labels, places, others)


def _followed(spelling: Spelling, mark: str) -> Spelling:
    """The spelling with a mark behind its text."""
    others = tuple(_followed(other, mark) for other in spelling.others)
    return Spelling(f"{spelling.text} {mark}", spelling.labels, spelling.places, others)
