from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wavconformer.decoding.lexicon import Lexicon
from wavconformer.lm.trie import OUTSIDE, ROOT

SYMBOLS = [None, " ", "A", "B", "AB"]


@given(st.lists(st.text("AB", min_size=1, max_size=6), max_size=12), st.data())
def test_the_best_below_a_node_is_that_of_its_words(words, data):
    lexicon = Lexicon(words, SYMBOLS)
    values = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(set(words)), max_size=len(set(words)))))
    best = lexicon.best_below(values)
    assert len(best) == len(lexicon.trie)
    for word in lexicon.words:
        node = np.array([ROOT])
        for depth, letter in enumerate(word, 1):
            node = lexicon.step(node, np.array([SYMBOLS.index(letter)]))
            below = [
                value for other, value in zip(lexicon.words, values, strict=True) if other.startswith(word[:depth])
            ]
            assert best[node] == max(below)


def test_a_token_of_several_letters_is_several_steps():
    lexicon = Lexicon(["ABBA", "B", "Bé", ""], SYMBOLS)
    assert (lexicon.words, lexicon.foreign) == (["ABBA", "B"], ["Bé", ""])
    node = lexicon.step(np.array([ROOT]), np.array([4]))
    assert node == lexicon.step(lexicon.step(np.array([ROOT]), np.array([2])), np.array([3]))
    assert lexicon.step(node, np.array([4])) == OUTSIDE
    assert lexicon.step(np.array([ROOT, OUTSIDE]), np.array([3, 3])).tolist() == [lexicon.ends[1], OUTSIDE]


def test_no_words():
    lexicon = Lexicon([], SYMBOLS)
    assert lexicon.step(np.array([ROOT]), np.array([2])) == OUTSIDE
    assert lexicon.best_below(np.zeros(0)).tolist() == [-np.inf]
