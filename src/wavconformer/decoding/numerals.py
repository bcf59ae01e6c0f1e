"""How numbers and signs are said in a language, by num2words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from wavconformer.errors import ConfigError, WavConformerError

# A part of a token: its text, and its place there; None where it is said otherwise than it is written.
Piece = tuple[str, int | None]

_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW"}
_NUMBER = re.compile(
    r"(?P<before>[$€£¥₹₽₩])?"
    r"(?P<whole>\d{1,3}(?:[,.'’]\d{3})+(?!\d)|\d+)(?:(?P<point>[.,])(?P<part>\d+))?"
    r"(?P<after>[$€£¥₹₽₩]|(?:st|nd|rd|th)\b)?",
    re.IGNORECASE,
)
_SIGNS = {
    "de": {"%": "prozent", "&": "und", "+": "plus", "=": "gleich", "@": "at", "°": "grad", "§": "paragraph"},
    "en": {"%": "percent", "&": "and", "+": "plus", "=": "equals", "@": "at", "°": "degrees", "#": "number"},
    "es": {"%": "por ciento", "&": "y", "+": "más", "=": "igual a", "@": "arroba", "°": "grados"},
    "fr": {"%": "pour cent", "&": "et", "+": "plus", "=": "égale", "@": "arobase", "°": "degrés"},
    "it": {"%": "per cento", "&": "e", "+": "più", "=": "uguale a", "@": "chiocciola", "°": "gradi"},
    "nl": {"%": "procent", "&": "en", "+": "plus", "=": "is", "@": "at", "°": "graden"},
    "pt": {"%": "por cento", "&": "e", "+": "mais", "=": "igual a", "@": "arroba", "°": "graus"},
}
_YEARS = range(1100, 2100)


class Numerals:
    """Reads numbers and signs out.

    language: a code of num2words, such as "en", "de" or "pt_BR".

    Raises ConfigError where num2words doesn't know the language, WavConformerError where it isn't installed.
    """

    def __init__(self, language: str) -> None:
        try:
            import num2words
        except ImportError as error:
            raise WavConformerError(
                "Reading numbers out needs num2words, which isn't installed: pip install 'wavconformer[align]'. "
                "Without a language, numbers are aligned as wildcards."
            ) from error
        code = language.replace("-", "_")
        known = {name.lower(): name for name in num2words.CONVERTER_CLASSES}
        found = known.get(code.lower()) or known.get(code.lower().split("_")[0])
        if found is None:
            raise ConfigError(
                f"The language '{language}' is none that num2words reads numbers in: it knows "
                f"{', '.join(sorted(known))}."
            )
        self.language = found
        self._converter = num2words.CONVERTER_CLASSES[found]
        self._num2words = num2words.num2words
        self._signs = _SIGNS.get(found.split("_")[0].lower(), {})

    def readings(self, token: str) -> Iterator[list[Piece]]:
        """Ways to say a token, the likeliest first: pieces that are spelled as written, and such that are read out."""
        matches = list(_NUMBER.finditer(token))
        choices: list[list[str | None]] = [[*dict.fromkeys(self._said(match))] or [None] for match in matches]
        yield self._read(token, matches, [choice[0] for choice in choices])
        if len(matches) == 1:  # of several numbers in one token, as in 10-20, each is read in the likeliest way
            for choice in choices[0][1:]:
                yield self._read(token, matches, [choice])

    def _read(self, token: str, matches: list[re.Match[str]], said: list[str | None]) -> list[Piece]:
        pieces: list[Piece] = []
        end = 0
        for match, words in zip(matches, said, strict=True):
            pieces.extend(self._written(token, end, match.start()))
            pieces.append((match[0], match.start()) if words is None else (words, None))
            end = match.end()
        pieces.extend(self._written(token, end, len(token)))
        return pieces

    def _written(self, token: str, start: int, end: int) -> Iterator[Piece]:
        """A stretch between numbers: signs are read out, the rest is spelled as written."""
        since = start
        for place in range(start, end):
            if token[place] in self._signs:
                if since < place:
                    yield token[since:place], since
                yield self._signs[token[place]], None
                since = place + 1
        if since < end:
            yield token[since:end], since

    def _said(self, match: re.Match[str]) -> Iterator[str]:
        """Ways to say a number."""
        whole = re.sub(r"\D", "", match["whole"])
        after = (match["after"] or "").lower()
        number = int(whole)
        currency = _CURRENCIES.get(match["before"] or "") or _CURRENCIES.get(after)
        if currency is not None:
            yield from self._money(number, match["part"], currency)
        elif match["part"]:
            yield from self._call(Decimal(f"{whole}.{match['part']}"))
            yield self._digits(whole, match["part"])
        elif after:
            yield from self._call(number, to="ordinal")
        elif whole.startswith("0") and len(whole) > 1:
            yield self._digits(whole)
        else:
            if len(match["whole"]) == 4 and number in _YEARS:
                yield from self._call(number, to="year")
            yield from self._call(number)
            if number <= 31:
                yield from self._call(number, to="ordinal")
            if len(match["whole"]) > 2:
                yield self._digits(whole)

    def _money(self, number: int, part: str | None, currency: str) -> Iterator[str]:
        amount = Decimal(f"{number}.{part or '0'}")
        for words in self._call(amount, to="currency", currency=currency, separator=" |"):
            whole = words.replace("|", "") if part and int(part) else words.split("|")[0]
            yield whole.replace(" sterling", "")  # nobody says so
        yield from self._call(number)

    def _digits(self, *runs: str) -> str:
        return " ".join(word for run in runs for digit in run for word in self._call(int(digit)))

    def _call(self, number: int | Decimal, **options: Any) -> Iterator[str]:
        """What num2words says, if it can; in English also without the "and" that not all say."""
        try:
            words = str(self._num2words(number, lang=self.language, **options))
        except (NotImplementedError, OverflowError, TypeError, KeyError, AttributeError):
            return  # not every language has years or currencies, or words for numbers so large
        yield words
        if self.language.startswith("en") and " and " in words:
            yield words.replace(" and ", " ")
