from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavconformer.decoding.hotwords import HotWords

SYMBOLS = [None, " ", "A", "B", "C"]
TOKENS = {symbol: token for token, symbol in enumerate(SYMBOLS) if symbol}


def walk(hotwords: HotWords, text: str) -> list[tuple[float, float]]:
    """What is settled and what is lent after each letter; the last entry is what is settled at the end."""
    state, paid, found = 0, 0.0, []
    for letter in text:
        token = TOKENS[letter]
        paid += hotwords.paid[state, token]
        state = hotwords.step[state, token]
        found.append((paid, float(hotwords.credit[state])))
    return [*found, (paid + float(hotwords.last[state]), 0.0)]


def test_credit_grows_by_letters_and_goes_with_a_wrong_one():
    hotwords = HotWords({"ABC": 6.0}, SYMBOLS)
    assert walk(hotwords, "AB") == [(0, 2), (0, 4), (0, 0)]
    assert walk(hotwords, "ABC") == [(0, 2), (0, 4), (0, 6), (6, 0)]
    assert walk(hotwords, "ABB ") == [(0, 2), (0, 4), (0, 0), (0, 0), (0, 0)]
    assert walk(hotwords, "ABC A") == [(0, 2), (0, 4), (0, 6), (6, 0), (6, 2), (6, 0)]
    assert walk(hotwords, "CABC")[-1] == (0, 0)
    assert walk(hotwords, "ABCC")[-1] == (0, 0)


def test_phrases_go_on_over_spaces_and_leave_their_words_when_they_break_off():
    hotwords = HotWords({"A BC": 4.0, "BB": 3.0, "A": 1.0}, SYMBOLS)
    assert walk(hotwords, "A BC")[-1] == (5, 0)  # A and A BC
    assert walk(hotwords, "A BB")[-1] == (4, 0)
    assert walk(hotwords, "A BB")[2:4] == [(1, 3), (1, 3)]  # "A B", then "BB"
    assert walk(hotwords, "A C BC")[-1] == (1, 0)
    assert walk(hotwords, "A A BC")[-1] == (6, 0)
    assert walk(hotwords, "A BCC")[-1] == (1, 0)


@given(
    st.dictionaries(st.text("AB ", min_size=1, max_size=5).map(lambda text: " ".join(text.split())).filter(bool),
                    st.floats(-3, 5).map(lambda value: round(value, 2)).filter(bool), max_size=4),
    st.text("AB ", max_size=12).map(lambda text: " ".join(text.split())),
)  # fmt: skip
def test_what_is_settled_is_the_longest_phrase_that_each_word_ends(weights, text):
    words = text.split()
    expected = 0.0
    for end in range(1, len(words) + 1):
        ending = [" ".join(words[start:end]) for start in range(end)]  # the longest first
        expected += next((weights[phrase] for phrase in ending if phrase in weights), 0.0)
    assert walk(HotWords(weights, SYMBOLS), text)[-1][0] == pytest.approx(expected)


@given(
    st.dictionaries(st.text("AB", min_size=1, max_size=4), st.floats(0.5, 5), max_size=4), st.text("AB", max_size=10)
)
def test_without_a_delimiter_phrases_are_found_anywhere(weights, text):
    symbols = [None, "A", "B"]
    hotwords = HotWords(weights, symbols)
    state, paid = 0, 0.0
    for letter in text:
        paid += hotwords.paid[state, symbols.index(letter)]
        state = hotwords.step[state, symbols.index(letter)]
    expected = 0.0
    for end in range(1, len(text) + 1):
        expected += next((weights[text[start:end]] for start in range(end) if text[start:end] in weights), 0.0)
    assert paid + hotwords.last[state] == pytest.approx(expected)


def test_tokens_of_several_letters_are_several_steps():
    plain = HotWords({"ABC": 6.0, "C": 1.0}, SYMBOLS)
    symbols = [*SYMBOLS, "BC"]
    pieces = HotWords({"ABC": 6.0, "C": 1.0}, symbols)
    for start in itertools.product(["A", "B", "C", " "], repeat=2):
        state = 0
        for letter in start:
            state = plain.step[state, TOKENS[letter]]
        after = plain.step[plain.step[state, TOKENS["B"]], TOKENS["C"]]
        assert pieces.step[state, 5] == after


def test_no_hot_words_pay_nothing():
    hotwords = HotWords({}, SYMBOLS)
    assert not np.any(hotwords.paid)
    assert not np.any(hotwords.credit)
    assert walk(hotwords, "AB A")[-1] == (0, 0)
