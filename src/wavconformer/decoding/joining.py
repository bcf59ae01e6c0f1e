"""Frames of neighbouring windows joined, and parted again only where no word stands."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.processing.collapse import collapse


@dataclass(frozen=True)
class Frames:
    """Scores of some of a recording's frames.

    log_probs: (T, V) natural logarithms of the posteriors. first: number in the recording of the first of them.
    is_last: of a stretch, whether a pause or the end of the recording follows.
    """

    log_probs: NDArray[np.float32]
    first: int
    is_last: bool = True

    @property
    def end(self) -> int:
        """Number in the recording of the frame after the last."""
        return self.first + len(self.log_probs)


class Joiner:
    """Takes the frames of one window after the other, and gives stretches to decode.

    A stretch ends with a window that ends in a pause. Where a window ends in the middle of speech, the stretch ends at
    the last certain boundary of words instead, and what comes after that waits for the next window: decoding the
    stretches one by one then gives, word for word, what decoding all frames at once gives.

    delimiters: ids of the tokens that part words; for a vocabulary without one, words end where blanks are most.
    blank: id of the CTC blank. most: frames that may wait where no boundary is found. least: frames that wait in any
    case where there are no delimiters, as no boundary is certain then.
    """

    def __init__(self, delimiters: Collection[int], blank: int, most: int = 3_000, least: int = 0) -> None:
        self._delimiters = np.array(sorted(delimiters), np.int64)
        self._blank = blank
        self._most = most
        self._least = 0 if len(self._delimiters) else least
        self._waiting: list[Frames] = []

    def feed(self, frames: Frames, *, closed: bool) -> list[Frames]:
        """The stretches that are complete with these frames. closed: whether a pause follows."""
        stretches: list[Frames] = []
        if self._waiting and self._waiting[-1].end != frames.first:
            stretches = self.finish()  # silence was left out between them
        if len(frames.log_probs):
            self._waiting.append(frames)
        if closed:
            return stretches + self.finish()
        joined = self._joined()
        cut = 0 if joined is None else self._boundary(joined.log_probs)
        if joined is not None and cut:
            stretches.append(Frames(joined.log_probs[:cut], joined.first, is_last=False))
            rest = joined.log_probs[cut:].copy()  # so that the whole isn't held for the sake of its end
            self._waiting = [Frames(rest, joined.first + cut)] if len(rest) else []
        return stretches

    def waiting(self, frames: Frames) -> Frames:
        """What waits, with the frames that come next, if they do; all stays as it is."""
        joined = self._joined()
        if joined is None or joined.end != frames.first:
            return frames
        return Frames(np.concatenate([joined.log_probs, frames.log_probs]), joined.first)

    def finish(self) -> list[Frames]:
        """What still waits, at the end or before a pause."""
        joined = self._joined()
        self._waiting = []
        return [] if joined is None else [joined]

    def _joined(self) -> Frames | None:
        if len(self._waiting) > 1:
            parts = np.concatenate([frames.log_probs for frames in self._waiting])
            self._waiting = [Frames(parts, self._waiting[0].first)]
        return self._waiting[0] if self._waiting else None

    def _boundary(self, log_probs: NDArray[np.float32]) -> int:
        """The frame that a new word may begin at: after the last delimiter.

        Without delimiters it is the middle of the longest silence of the later half. 0 where there is none and waiting
        for one is no burden yet.
        """
        labels = log_probs.argmax(-1)
        quiet = np.isin(labels, self._delimiters) | (labels == self._blank)
        if quiet.all():
            return len(labels)
        delimiters = np.flatnonzero(np.isin(labels, self._delimiters))
        if len(delimiters):
            return int(delimiters[-1]) + 1
        if len(labels) < (self._most if len(self._delimiters) else self._least):
            return 0
        runs = collapse(quiet.astype(np.int64), np.array([0, len(quiet)]), blank=0)
        middles = (runs.starts + runs.ends + 1) // 2
        found = max(zip(2 * middles >= len(labels), runs.ends - runs.starts, middles, strict=True), default=None)
        if found is not None:
            return int(found[-1])
        return len(labels) if len(labels) >= self._most else 0
