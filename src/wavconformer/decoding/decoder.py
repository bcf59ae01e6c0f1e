"""What turns a model's scores into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.words import Word


class Decoder(Protocol):
    """The one place where frames become words. It is called for one stretch of speech after the other."""

    def __call__(self, log_probs: NDArray[np.float32], first_frame: int = 0) -> tuple[Word, ...]:
        """The words of a stretch of speech, in order.

        log_probs: (T, V) natural logarithms of the posteriors, of a whole recording or of what lies between two pauses.
        first_frame: the recording's frame that the first of them is; times count from the recording's start.
        """


@runtime_checkable
class ManyDecoder(Decoder, Protocol):
    """A decoder that is quicker with several recordings at once than with one after the other."""

    def many(self, log_probs: Sequence[NDArray[np.float32]]) -> list[tuple[Word, ...]]:
        """The words of each of some recordings (T, V), as each would have them alone."""


def decode_all(decoder: Decoder, log_probs: Sequence[NDArray[np.float32]]) -> list[tuple[Word, ...]]:
    """The words of each of some recordings (T, V), at once where the decoder can do that."""
    if isinstance(decoder, ManyDecoder):
        return decoder.many(log_probs)
    return [decoder(rows) for rows in log_probs]


@runtime_checkable
class PartDecoder(Decoder, Protocol):
    """A decoder for which a sentence's words depend on each other: it may be given the sentence part by part."""

    def part(
        self,
        log_probs: NDArray[np.float32],
        first_frame: int = 0,
        *,
        before: Sequence[str] = (),
        is_last: bool = True,
    ) -> tuple[Word, ...]:
        """The words of a part that begins where a word does. before: words of the same sentence that precede it.

        is_last: whether the sentence ends with it.
        """
