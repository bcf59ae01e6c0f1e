"""Long recordings in windows: what is said between two pauses, on the model's frame grid.

Where speech goes on too long without a pause, it is cut all the same, and both windows bring along what stands on the
other side, so that the model hears the edges as it would hear them in the whole. Dropping the frames of that context
(`Window.kept`) leaves every frame of the recording at most once, each at its exact place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio.vad import DETECTORS, LEAST_PAUSE, SpeechSpans, VoiceDetector

PAD = 0.2
"""Seconds round speech that belong to it: detectors miss soft beginnings and ends."""
LONGEST = 1.5
"""A window is at most so many times as long as it is meant to be, context apart; the shortest have `_ROOM` instead."""
_ROOM = 0.4  # seconds beyond what a window is meant to be in which a place to cut is sought, at the least
_SHORTEST = 0.3
_LONGEST_PAUSE = 10.0  # seconds: silence that doesn't end a window must be kept until somebody speaks again
_QUIET = 0.08  # seconds over which loudness is measured where a cut must be made in the middle of speech


@dataclass(frozen=True)
class Cutting:
    """How a recording is cut into windows.

    window_seconds: speech that goes on for so long is cut at the first moment's rest, or, where there is none, in the
        quietest place before one and a half times that. Recordings no longer than that are one window, all of it.
    context_seconds: of audio beyond such a cut that the model hears on either side of it, within the same speech.
    lookahead_seconds: of the side after the cut, where that isn't to be as much as before it.
    pause_seconds: a pause from so long on ends a window, and but for its edges nobody listens to it. At most 10.
    vad: what finds the pauses: "silero" (needs the extra `vad`), "energy" (loudness against that of its surroundings),
        "off" (nothing is left out, and windows are cut where it is quietest), "auto" for silero where it is installed,
        else energy.
    """

    window_seconds: float = 20.0
    context_seconds: float = 1.0
    lookahead_seconds: float | None = None
    pause_seconds: float = 0.5
    vad: str = "auto"

    def __post_init__(self) -> None:
        if not _SHORTEST <= self.window_seconds < math.inf:
            raise ValueError(f"window_seconds is {self.window_seconds}, but must be a number from {_SHORTEST} on.")
        if not 0.0 <= self.context_seconds < math.inf:
            raise ValueError(f"context_seconds is {self.context_seconds}, but must be a number from 0 on.")
        if self.lookahead_seconds is not None and not 0.0 <= self.lookahead_seconds < math.inf:
            raise ValueError(f"lookahead_seconds is {self.lookahead_seconds}, but must be a number from 0 on, or None.")
        if not LEAST_PAUSE <= self.pause_seconds <= _LONGEST_PAUSE:
            raise ValueError(
                f"pause_seconds is {self.pause_seconds}, but must be a number from {LEAST_PAUSE} to {_LONGEST_PAUSE}; "
                "with vad='off' no pause is left out."
            )
        if self.vad not in DETECTORS:
            raise ValueError(f"vad is {self.vad!r}, but must be one of {', '.join(DETECTORS)}.")

    @property
    def longest_seconds(self) -> float:
        """No window is longer, context apart."""
        return max(LONGEST * self.window_seconds, self.window_seconds + _ROOM)

    @property
    def ahead_seconds(self) -> float:
        """What the model hears beyond the end of a window that is cut in the middle of speech."""
        return self.context_seconds if self.lookahead_seconds is None else self.lookahead_seconds


@dataclass(frozen=True)
class Window:
    """A stretch of a recording and what stands round it.

    samples: (S,) of the stretch with its context. offset: number in the recording of the first of them.
    start, stop: first sample of the stretch itself and the sample after its last, in the recording.
    closed: whether it ends in a pause, or with the recording. hop: samples from one frame of the model to the next.
    """

    samples: NDArray[np.float32]
    offset: int
    start: int
    stop: int
    closed: bool
    hop: int

    @property
    def first_frame(self) -> int:
        """Number in the recording of the stretch's first frame."""
        return self.start // self.hop

    @property
    def kept(self) -> slice:
        """Of the frames that the model makes of `samples`, those of the stretch itself."""
        return slice((self.start - self.offset) // self.hop, -(-(self.stop - self.offset) // self.hop))


@dataclass(frozen=True)
class _Plan:
    """A window to be; begin: where the speech that it is of begins; cut_after: whether that goes on after it."""

    start: int
    stop: int
    begin: int
    cut_after: bool


class Windower:
    """Cuts a recording into windows while it comes in.

    It holds no more than a window with its context, and what was fed last.

    cutting: how. rate: samples per second. hop: samples from one frame of the model to the next. field: samples that
    one frame sees. detector: a fresh one, which finds speech; None: all of it counts as speech.
    """

    def __init__(self, cutting: Cutting, *, rate: int, hop: int, field: int, detector: VoiceDetector | None) -> None:
        self._rate, self._hop, self._field = rate, hop, field
        self._window = round(cutting.window_seconds * rate)
        self._most = round(cutting.longest_seconds * rate)
        self._context = self._ceiling(round(cutting.context_seconds * rate))
        self._ahead = self._ceiling(round(cutting.ahead_seconds * rate))
        self._pad = round(PAD * rate)
        self._pause = round(cutting.pause_seconds * rate)
        # After speech no more than what is there whenever the next may begin: windows don't depend on how samples come.
        self._pad_after = min(self._pad, self._pause // 2)
        self._detector = detector
        self._spans = None if detector is None else SpeechSpans(detector.frame, rate)
        self._samples = np.zeros(0, np.float32)
        self._base = 0  # number in the recording of the first sample held
        self._start: int | None = None  # of the window that is growing
        self._last = 0  # where the speech in it that is known of ends
        self._done = 0  # where the window before it ended
        self._begin = 0  # of the first of the windows since the last pause
        self._planned: list[_Plan] = []

    @property
    def heard(self) -> int:
        """Samples fed so far."""
        return self._base + len(self._samples)

    def feed(self, samples: NDArray[np.float32]) -> list[Window]:
        """Takes the next samples (S,) and gives the windows that are complete with them."""
        self._samples = np.concatenate([self._samples, samples])
        if self._detector is None or self._spans is None:
            self._speech(0, self.heard)
        else:
            for span in self._spans.feed(self._detector.feed(samples)):
                self._speech(*span)
            if self._spans.open is not None:
                self._speech(self._spans.open, self._spans.until)
            elif self._start is not None and self._spans.since - self._last >= self._pause:
                self._close(self._start)
        return self._cut_out(final=False)

    def finish(self) -> list[Window]:
        """The windows that remain at the end of the recording."""
        if self._detector is None or self._spans is None:
            self._last = self.heard
        else:
            for span in self._spans.feed(self._detector.finish()):
                self._speech(*span)
            for span in self._spans.finish():
                self._speech(*span)
        if self._start is not None:
            self._close(self._start)
        return self._cut_out(final=True)

    def growing(self) -> Window | None:
        """What has been heard of the speech that isn't in a window yet, with the context before it; None in silence."""
        start, begin = self._start, self._begin
        if self._planned:
            start, begin = self._planned[0].start, self._planned[0].begin
        if start is None or start >= self.heard:
            return None
        offset = max(begin, start - self._context)
        return Window(self._samples[offset - self._base :].copy(), offset, start, self.heard, False, self._hop)

    @property
    def held(self) -> int:
        """Samples that are kept in memory."""
        return len(self._samples)

    # Planning, in samples of the recording

    def _speech(self, start: int, until: int) -> None:
        """There is speech from `start` on, known of up to `until`. A longer one of the same start may follow."""
        until = min(until, self.heard)
        if self._start is not None and start > self._last:
            rest = self._floor((self._last + start) // 2)
            if start - self._last >= self._pause:
                self._close(self._start)
            elif self._window <= rest - self._start <= self._most:
                self._cut(self._start, rest)
        if self._start is None:
            self._start = self._begin = max(self._done, self._floor(max(0, start - self._pad)))
        while until + self._pad - self._start > self._most:
            place = self._quietest(self._start + self._window, self._start + self._most - self._pad)
            self._cut(self._start, place)
        self._last = until

    def _cut(self, start: int, place: int) -> None:
        """Ends the window that began at `start` where speech goes on."""
        self._planned.append(_Plan(start, place, self._begin, cut_after=True))
        self._start = self._done = place

    def _close(self, start: int) -> None:
        """Ends the window that began at `start` in the pause after its last speech."""
        self._done = min(self._ceiling(self._last + self._pad_after), self.heard)
        self._planned.append(_Plan(start, self._done, self._begin, cut_after=False))
        self._start = None

    def _quietest(self, low: int, high: int) -> int:
        """The frame's beginning between two samples round which the recording is quietest."""
        low, high = self._ceiling(low), self._floor(high)
        samples = self._samples[low - self._base : high - self._base].astype(np.float64)
        width = max(1, round(_QUIET * self._rate))
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples))])
        places = np.arange(0, len(samples), self._hop)
        begins = np.clip(places - width // 2, 0, max(0, len(samples) - width))
        loudness = energy[np.minimum(begins + width, len(samples))] - energy[begins]
        return low + int(places[loudness.argmin()])

    # Samples

    def _cut_out(self, *, final: bool) -> list[Window]:
        """The planned windows whose context has been heard; drops what no window will need."""
        windows = []
        while self._planned:
            plan = self._planned[0]
            # The last frame looks beyond the window; without context that is all that may.
            end = plan.stop + max(self._ahead if plan.cut_after else 0, self._field - self._hop)
            if end > self.heard and not final:
                break
            offset = max(plan.begin, plan.start - self._context)
            samples = self._samples[offset - self._base : min(end, self.heard) - self._base].copy()
            windows.append(Window(samples, offset, plan.start, plan.stop, not plan.cut_after, self._hop))
            self._planned.pop(0)
        needed = self.heard
        if self._spans is not None:
            needed = max(self._done, self._spans.since - self._pad)
        if self._start is not None:
            needed = min(needed, self._start)
        if self._planned:
            needed = min(needed, self._planned[0].start)
        dropped = self._floor(max(0, needed - self._context)) - self._base
        if dropped > 0:
            self._samples = self._samples[dropped:].copy()
            self._base += dropped
        return windows

    def _floor(self, sample: int) -> int:
        return sample - sample % self._hop

    def _ceiling(self, sample: int) -> int:
        return -(-sample // self._hop) * self._hop


def sliding(
    blocks: Iterable[NDArray[np.float32]], window: int, step: int, hop: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Windows of a recording while it comes in, block by block (S,): the first sample's number, and the samples.

    window, step: samples of each, and from one to the next, a multiple of `hop` and at most a window. The last window
    begins where it is as long as the others, or less than a hop longer, and has all that is left; a shorter recording
    is one window.
    """
    held = np.zeros(0, np.float32)
    base = start = 0  # numbers of the first sample held, and of the next window's
    for block in blocks:
        held = np.concatenate([held, block])
        while base + len(held) >= start + window:
            yield start, held[start - base : start - base + window].copy()
            dropped = start - base  # the last window may begin before the next one
            held, base = held[dropped:], start
            start += step
    heard = base + len(held)
    if not start and heard:
        yield 0, held
    elif heard > start - step + window:
        first = (heard - window) // hop * hop
        yield first, held[first - base :].copy()
