"""Sequences of numbers that share their beginnings, stepped through many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = 0
OUTSIDE = -1


class Trie:
    """A tree of sequences over the symbols 0 … `width` - 1, as one sorted array.

    A node is a number: the root is 0, and the child of `node` by `symbol` is 1 + the place of the key
    `node` · `width` + `symbol` among all keys. So children have larger numbers than their parents, levels follow each
    other, and a step is a binary search, done for whole arrays at once.
    """

    def __init__(self, keys: NDArray[np.int64], width: int) -> None:
        """keys: (N,), sorted. Use `build`."""
        self._keys = np.append(keys, np.iinfo(np.int64).max)  # with one behind all that can be asked for
        self.keys = self._keys[:-1]
        self.width = width

    @classmethod
    def build(cls, sequences: Iterable[Sequence[int]], width: int) -> tuple[Trie, NDArray[np.int64]]:
        """The trie of sequences, in any order and repeated as may be, and the node (N,) that each of them ends at."""
        rows = list(sequences)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter((symbol for row in rows for symbol in row), np.int64, int(lengths.sum()))
        return cls.of(flat, lengths, width)

    @classmethod
    def of(cls, flat: NDArray[np.int64], lengths: NDArray[np.int64], width: int) -> tuple[Trie, NDArray[np.int64]]:
        """`build` of sequences that lie one behind the other in `flat`. lengths: (N,), of each."""
        starts = np.cumsum(lengths) - lengths
        ends = np.zeros(len(lengths), np.int64)
        keys: list[NDArray[np.int64]] = []
        offset = 1  # the number of the first node of a level
        at = np.arange(len(lengths))
        for depth in range(int(lengths.max(initial=0))):
            at = at[lengths[at] > depth]
            level, inverse = np.unique(ends[at] * width + flat[starts[at] + depth], return_inverse=True)
            ends[at] = offset + inverse
            keys.append(level)
            offset += len(level)
        return cls(np.concatenate(keys) if keys else np.zeros(0, np.int64), width), ends

    def __len__(self) -> int:
        """The number of nodes, the root included."""
        return len(self.keys) + 1

    def step(self, nodes: NDArray[np.integer[Any]], symbols: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The children of nodes by symbols, which broadcast; OUTSIDE where there is none, and from OUTSIDE."""
        keys = nodes * np.int64(self.width) + symbols
        places = self._keys.searchsorted(keys)
        return np.where((self._keys[places] == keys) & (nodes >= 0), places + 1, OUTSIDE)

    @property
    def parents(self) -> NDArray[np.int64]:
        """The parent of each node but the root, (N - 1,)."""
        return self.keys // self.width

    @property
    def symbols(self) -> NDArray[np.int64]:
        """The symbol by which each node but the root is reached, (N - 1,)."""
        return self.keys % self.width
