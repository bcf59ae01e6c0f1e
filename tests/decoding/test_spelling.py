from __future__ import annotations

import sys

import pytest

from wavconformer import ConfigError, Wav2Vec2CTCTokenizer, WavConformerError
from wavconformer.decoding.numerals import Numerals
from wavconformer.decoding.spelling import WILDCARD, Speller, Spelling

LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
UPPER = {**LETTERS, **{letter: place for place, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ'", start=5)}}


@pytest.fixture(scope="module")
def speller():
    return Speller(Wav2Vec2CTCTokenizer(UPPER))


@pytest.fixture(scope="module")
def english():
    return Speller(Wav2Vec2CTCTokenizer(UPPER), Numerals("en"))


def spelled(spelling: Spelling) -> str:
    """What the labels read as: * for a wildcard, a space for the delimiter."""
    names = {index: token for token, index in UPPER.items()} | {WILDCARD: "*", 4: " "}
    assert len(spelling.labels) == len(spelling.places)
    for label, place in zip(spelling.labels, spelling.places, strict=True):
        assert place is None or 0 <= place < len(spelling.text)
        assert place is not None or label != WILDCARD
    return "".join(names[label] for label in spelling.labels)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("Hello,", "HELLO"),
        ("(don’t)", "DON'T"),
        ("'tis", "TIS"),
        ("dogs'", "DOGS"),
        ("café", "CAFE"),
        ("Straße", "STRASSE"),
        ("œuvre", "OEUVRE"),
        ("well-known", "WELL KNOWN"),
        ("and/or—so", "AND OR SO"),
        ("-dash-", "DASH"),
        ("U.S.A.", "USA"),
        ("Ａｂ", "AB"),
        ("25", "*"),
        ("R2D2", "R*D*"),
        ("10-20", "* *"),
        ("漢字", "*"),
        ("50%", "*"),
        ("—", ""),
        ("***", ""),
        ("...", ""),
    ],
)
def test_words_without_a_language(speller, token, expected):
    assert spelled(speller.word(token)) == expected


def test_places_are_those_of_the_characters(speller):
    word = speller.word("«Straße»,")
    assert word.places == (1, 2, 3, 4, 5, 5, 6)
    assert speller.word("a-b").places == (0, None, 2)


def test_marks_that_stand_alone_go_with_a_word(speller):
    words = speller.words("— Yes … no !")
    assert [word.text for word in words] == ["— Yes …", "no !"]
    assert [spelled(word) for word in words] == ["YES", "NO"]
    assert words[0].places == (2, 3, 4)
    assert speller.words("* * *") == []


def test_a_lower_case_vocabulary():
    lower = {token.lower(): index for token, index in UPPER.items()}
    assert Speller(Wav2Vec2CTCTokenizer(lower)).word("Ja").labels == (lower["j"], lower["a"])


def test_digits_that_the_vocabulary_has_are_letters(english):
    with_digits = {**UPPER, **{str(digit): 32 + digit for digit in range(10)}}
    assert Speller(Wav2Vec2CTCTokenizer(with_digits), Numerals("en")).word("25").labels == (34, 37)


def test_without_a_delimiter_words_run_on():
    speller = Speller(Wav2Vec2CTCTokenizer(UPPER, word_delimiter_token=None))
    assert speller.delimiter is None
    assert speller.word("a-b").labels == (5, 6)


@pytest.mark.parametrize(
    ("token", "readings"),
    [
        ("25", ["TWENTY FIVE", "TWENTY FIFTH"]),
        ("(7).", ["SEVEN", "SEVENTH"]),
        ("1984", ["NINETEEN EIGHTY FOUR", "ONE THOUSAND NINE HUNDRED AND EIGHTY FOUR"]),
        ("105", ["ONE HUNDRED AND FIVE", "ONE HUNDRED FIVE", "ONE ZERO FIVE"]),
        ("007", ["ZERO ZERO SEVEN"]),
        ("21st", ["TWENTY FIRST"]),
        ("1,000", ["ONE THOUSAND"]),
        ("3.14", ["THREE POINT ONE FOUR"]),
        ("50%", ["FIFTY PERCENT"]),
        ("$5", ["FIVE DOLLARS"]),
        ("£3.50", ["THREE POUNDS FIFTY PENCE"]),
        ("&", ["AND"]),
        ("Q&A", ["Q AND A"]),
        ("R2D2", ["R TWO D TWO"]),
        ("10:30", ["TEN THIRTY"]),
        ("word", ["WORD"]),
    ],
)
def test_numbers_and_signs_are_read_out(english, token, readings):
    word = english.word(token)
    found = [spelled(word), *(spelled(other) for other in word.others)]
    assert found[: len(readings)] == readings
    assert all(other.text == word.text == token for other in word.others)
    assert len(set(found)) == len(found)


def test_what_is_read_out_stands_for_no_single_character(english):
    word = english.word("R2")
    assert word.places == (0, None, None, None, None)


def test_a_number_too_large_for_words_is_a_wildcard(english):
    assert spelled(english.word("1" + 400 * "0")).endswith(("*", "ZERO"))


def test_another_language():
    assert spelled(Speller(Wav2Vec2CTCTokenizer(UPPER), Numerals("de")).word("25%")) == "FUNFUNDZWANZIG PROZENT"
    assert Numerals("pt-BR").language == "pt_BR"
    assert Numerals("de_AT").language == "de"


def test_an_unknown_language_is_refused():
    with pytest.raises(ConfigError, match=r"'xx' is none that num2words reads numbers in: it knows am, ar, "):
        Numerals("xx")


def test_without_num2words_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[align\]'"):
        Numerals("en")
