from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wavconformer.lm.trie import OUTSIDE, ROOT, Trie


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), max_size=20))
def test_a_trie_finds_what_it_was_made_of(sequences):
    trie, ends = Trie.build(sequences, 5)
    prefixes = {tuple(row[:length]) for row in sequences for length in range(1, len(row) + 1)}
    assert len(trie) == len(prefixes) + 1
    for row, end in zip(sequences, ends, strict=True):
        node = np.array([ROOT])
        for symbol in row:
            parent, node = node, trie.step(node, np.array([symbol]))
            assert (trie.parents[node - 1], trie.symbols[node - 1]) == (parent, symbol)
        assert node == end


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), max_size=6))
def test_steps_broadcast_and_nothing_follows_outside(sequences):
    trie, _ = Trie.build(sequences, 3)
    nodes = np.arange(-1, len(trie))
    table = trie.step(nodes[:, None], np.arange(3))
    assert table.shape == (len(nodes), 3)
    assert (table[0] == OUTSIDE).all()
    assert sorted(table[table != OUTSIDE]) == list(range(1, len(trie)))
