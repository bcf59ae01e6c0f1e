"""Labels read as text: rows of ids in, texts with the times of characters and words out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.processing.batch import as_array, is_tensor
from wavconformer.processing.collapse import collapse

# In this order: what one replacement leaves, the next may change.
_NEEDLESS_SPACES = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True, eq=False)
class Wav2Vec2CTCTokenizerOutput(Mapping[str, Any]):
    """A decoded text with its times; of a batch, a list of each. Entries are attributes and keys.

    text: the text.
    char_offsets: for each character {"char", "start_offset", "end_offset"}, in frames, the end exclusive;
        None, and then no key, unless asked for.
    word_offsets: the same for each word, {"word", "start_offset", "end_offset"}.
    """

    text: Any
    char_offsets: Any = None
    word_offsets: Any = None

    def _given(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}

    def __getitem__(self, key: str) -> Any:
        return self._given()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given())

    def __len__(self) -> int:
        return len(self._given())


def as_ids(value: Any) -> NDArray[np.int64]:
    """Ids as an array; TypeError where they are no integers."""
    array = as_array(value)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, not {array.dtype}: of logits, take argmax over the last axis.")
    return array.astype(np.int64, copy=False)


def flat_rows(sequences: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ids of rows one after the other, (N,), and where each row begins and ends among them, (B + 1,).

    sequences: (B, T), or a list of rows of any lengths; of (T,) each id is a row.
    """
    if is_tensor(sequences) or isinstance(sequences, np.ndarray):
        array = as_ids(sequences)
        if array.ndim not in (1, 2):
            raise ValueError(f"batch_decode() takes ids of shape (rows, frames), not {array.shape}.")
        width = array.shape[1] if array.ndim == 2 else 1
        return array.reshape(-1), np.arange(array.shape[0] + 1) * width
    rows = [np.atleast_1d(as_ids(row)) for row in sequences]
    for index, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(f"Row {index} of the ids has shape {row.shape}: give one number for each frame.")
    return np.concatenate([np.zeros(0, np.int64), *rows]), np.cumsum([0, *map(len, rows)])


def read(
    codes: NDArray[np.int32],
    bounds: NDArray[np.int64],
    symbols: Sequence[str],
    *,
    blank: str | None,
    delimiter: str | None,
    space: str,
    group: bool = True,
    spaced: bool = False,
    chars: bool = False,
    words: bool = False,
) -> Wav2Vec2CTCTokenizerOutput:
    """The texts of rows, with offsets where `chars` or `words` ask for them.

    codes: (N,) places in `symbols`, of all rows one after the other.
    bounds: (B + 1,); row i has the codes bounds[i] to bounds[i + 1].
    symbols: the texts of labels, each once.
    blank: the symbol that is dropped.
    delimiter: the symbol between words; `space` is shown for it.
    group: whether equal neighbours are one.
    spaced: whether a space is put between any two symbols.
    """
    symbols = list(symbols)
    runs = collapse(codes, bounds, blank=symbols.index(blank) if blank in symbols else None, group=group)
    shown = [space if symbol == delimiter else symbol for symbol in symbols]
    letters = np.array(shown, object)[runs.labels].tolist()
    rows = [slice(start, stop) for start, stop in pairwise(runs.bounds.tolist())]
    joint = " " if spaced else ""
    texts = [joint.join(letters[row]).strip() for row in rows]
    if not (chars or words):
        return Wav2Vec2CTCTokenizerOutput(texts)
    starts, ends = runs.starts.tolist(), runs.ends.tolist()
    timed = [(letters[row], starts[row], ends[row]) for row in rows]
    return Wav2Vec2CTCTokenizerOutput(
        texts,
        [_characters(*row) for row in timed] if chars else None,
        [_words(*row, space) for row in timed] if words else None,
    )


def _characters(letters: list[str], starts: list[int], ends: list[int]) -> list[dict[str, str | int]]:
    return [
        {"char": letter, "start_offset": start, "end_offset": end}
        for letter, start, end in zip(letters, starts, ends, strict=True)
    ]


def _words(letters: list[str], starts: list[int], ends: list[int], space: str) -> list[dict[str, str | int]]:
    """The runs of letters between spaces, each from its first letter's start to its last one's end."""
    is_letter = np.array([letter != space for letter in letters], np.int8)
    edges = np.diff(is_letter, prepend=0, append=0)
    return [
        {"word": "".join(letters[a:b]), "start_offset": starts[a], "end_offset": ends[b - 1]}
        for a, b in zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(), strict=True)
    ]


def without_needless_spaces(text: str) -> str:
    """The text without the spaces that tokenizers of English words leave before marks and contractions."""
    for spaced, tight in _NEEDLESS_SPACES:
        text = text.replace(spaced, tight)
    return text
