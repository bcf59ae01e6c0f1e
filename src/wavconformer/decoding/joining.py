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
    """

    log_probs: NDArray[np.float32]
    first: int

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
    blank: id of the CTC blank. most: frames that may wait where no boundary is found.
    """

    def __init__(self, delimiters: Collection[int], blank: int, most: int = 3_000) -> None:
        self._delimiters = np.array(sorted(delimiters), np.int64)
        self._blank = blank
        self._most = most
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
            stretches.append(Frames(joined.log_probs[:cut], joined.first))
            rest = joined.log_probs[cut:].copy()  # so that the whole isn't held for the sake of its end
            self._waiting = [Frames(rest, joined.first + cut)] if len(rest) else []
        return stretches

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
        """The frame that a new word may begin at: after a delimiter, in the longest silence of the later half.

        0 where there is none and waiting for one is no burden yet.
        """
        labels = log_probs.argmax(-1)
        parting = np.isin(labels, self._delimiters)
        quiet = parting | (labels == self._blank)
        if quiet.all():
            return len(labels)
        runs = collapse(quiet.astype(np.int64), np.array([0, len(quiet)]), blank=0)
        found: list[tuple[bool, int, int]] = []
        for start, end in zip(runs.starts.tolist(), runs.ends.tolist(), strict=True):
            if len(self._delimiters):
                inside = np.flatnonzero(parting[start:end])
                cut = start + int(inside[-1]) + 1 if len(inside) else 0
            else:
                cut = (start + end + 1) // 2
            if cut:
                found.append((2 * cut >= len(labels), end - start, cut))
        if found:
            return max(found)[-1]
        if len(labels) < self._most:
            return 0
        longest = max(zip(runs.ends - runs.starts, runs.starts, runs.ends, strict=True), default=None)
        return len(labels) if longest is None else int(longest[1] + longest[2] + 1) // 2
