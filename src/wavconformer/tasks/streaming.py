"""Live speech to text: samples in as they are spoken, words out as soon as they are certain."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio.decode import Resampler, as_float, check_finite, check_samples, checked_rate
from wavconformer.audio.windows import Cutting, Window
from wavconformer.decoding.decoder import Decoder
from wavconformer.decoding.joining import Frames
from wavconformer.decoding.words import Word
from wavconformer.tasks.events import EndOfUtterance, FinalWords, LiveEvent, PartialWords
from wavconformer.tasks.transcribe import Transcriber

LIVE = {"window_seconds": 0.5, "context_seconds": 8.0, "lookahead_seconds": 0.5, "pause_seconds": 0.5}
"""How live speech is cut where nothing else is said: words are final about a second after they were spoken."""
BLOCK_SECONDS = 0.032
"""Samples are looked at in steps of so many seconds, however they come: what becomes of them doesn't depend on that."""
NAME = "The stream"


class StreamingTranscriber:
    """Transcribes one stream of samples while it comes in.

    Words are final when a window (`wavconformer.Cutting`) is complete, and are then what `Transcriber.stream` gives for
    the same windows, which are short here, with much context: they begin at the last certain end of a word, and the
    model hears what was said before, up to `context_seconds`, and `lookahead_seconds` of what comes after. A pause ends
    an utterance. What memory holds, and what a second of audio costs, is bounded however long the stream and its
    utterances are: each window is one run of the model over itself and its context, and so is each partial result.

    Methods may be called from any thread, one at a time works. Streams in several threads may share a transcriber: its
    model, processor and decoder are only read, and all that changes is the stream's own.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        sampling_rate: int | None = None,
        partial_seconds: float | None = 0.6,
        decoder: Decoder | None = None,
        **cutting: Any,
    ) -> None:
        """sampling_rate: of the chunks, in Hz; the model's, 16,000, by default. Others are resampled.

        partial_seconds: of audio that must have come in since the model ran last, before it runs for partial words
            alone; they also come with each window that leaves an utterance unended, at no further cost. None: none.
        decoder: for this stream, in place of the transcriber's.
        cutting: window_seconds (0.5), context_seconds (8), lookahead_seconds (0.5), pause_seconds (0.5) and vad, as
            `wavconformer.Cutting` has them. Long windows cost less, and words are final later.

        Raises ValueError and TypeError for arguments that can't be, WavConformerError where a detector is missing.
        """
        if partial_seconds is not None and not 0 < partial_seconds < math.inf:
            raise ValueError(
                f"partial_seconds is {partial_seconds}, but must be positive, or None for no partial words."
            )
        self.cutting = Cutting(**{**LIVE, **cutting})
        rate = transcriber.sampling_rate
        self.sampling_rate = checked_rate(rate if sampling_rate is None else sampling_rate)
        self._transcriber = transcriber
        self._rate = rate
        self._partial = math.inf if partial_seconds is None else partial_seconds * rate
        self._resampler = Resampler(self.sampling_rate, rate)
        self._windower = transcriber.windower(self.cutting)
        self._utterances = transcriber.utterances(decoder or transcriber.decoder)
        self._block = round(BLOCK_SECONDS * rate)
        self._rest: list[NDArray[np.float32]] = []  # less than a block
        self._fed = 0  # samples of the chunks
        self._run = 0  # samples that had been looked at when the model ran last
        self._shown: tuple[Word, ...] = ()  # partial words that hold
        self._start: float | None = None  # of the utterance's first word
        self._end = 0.0  # of its last final one
        self._closed = False
        self._lock = threading.Lock()

    @property
    def heard(self) -> float:
        """Seconds of audio that have come in."""
        return self._fed / self.sampling_rate

    @property
    def held(self) -> float:
        """Seconds of audio that are kept in memory."""
        return (self._windower.held + sum(map(len, self._rest))) / self._rate

    def feed(self, chunk: NDArray[Any]) -> list[LiveEvent]:
        """Takes the next samples and gives what is known with them, in order.

        chunk: (S,) of any length; floats with full scale ±1, or uint8, int16 or int32 PCM.

        Raises AudioError at a sample that is NaN or infinite, ValueError and TypeError for an array of another shape or
        type: nothing of the chunk is taken then, and the stream goes on. CheckpointError where the model's scores are
        not numbers; ValueError after `close`.
        """
        with self._lock:
            if self._closed:
                raise ValueError("The stream was closed: start another StreamingTranscriber.")
            check_samples(chunk)
            samples = as_float(chunk)
            check_finite(samples, NAME, self.heard, self.sampling_rate)
            self._fed += len(samples)
            self._rest.append(self._resampler.feed(samples))
            return self._listen()

    def close(self) -> list[LiveEvent]:
        """Ends the stream and gives what was still open. Once more gives nothing."""
        with self._lock:
            if self._closed:
                return []
            self._closed = True
            self._rest.append(self._resampler.finish())
            events = self._listen()
            windows = [*self._windower.feed(np.concatenate(self._rest)), *self._windower.finish()]
            self._rest = []
            events += self._decode(windows)
            events += self._final(self._utterances.finish())
            return events + self._pause()

    def _listen(self) -> list[LiveEvent]:
        """What is known with the whole blocks that have come in."""
        if sum(map(len, self._rest)) < self._block:
            return []
        samples = np.concatenate(self._rest)
        whole = len(samples) - len(samples) % self._block
        self._rest = [samples[whole:].copy()]
        events: list[LiveEvent] = []
        for start in range(0, whole, self._block):
            events += self._decode(self._windower.feed(samples[start : start + self._block]))
        if self._windower.heard - self._run >= self._partial:
            events += self._guess()
        return events

    def _decode(self, windows: list[Window]) -> list[LiveEvent]:
        """The words that are final with these windows, and those that seem to follow."""
        events: list[LiveEvent] = []
        for window in windows:
            ahead: NDArray[np.float32] | None = None
            if self._transcriber.hears(window):
                own, ahead = self._transcriber.frames_of(window, NAME)
                self._run = self._windower.heard
                frames = Frames(own, window.first_frame)
                events += self._final(self._utterances.feed(frames, closed=window.closed))
            else:
                events += self._final(self._utterances.finish())
            if window.closed:
                events += self._pause()
            elif ahead is not None and self._partial < math.inf:
                after = window.first_frame + len(own)
                events += self._show(self._utterances.guess(Frames(ahead, after)))
        return events

    def _guess(self) -> list[LiveEvent]:
        """The words that seem to be said in what is not in a window yet."""
        window = self._windower.growing()
        if window is None or not self._transcriber.hears(window):
            return []
        self._run = self._windower.heard
        own, ahead = self._transcriber.frames_of(window, NAME)
        return self._show(self._utterances.guess(Frames(np.concatenate([own, ahead]), window.first_frame)))

    def _show(self, words: tuple[Word, ...]) -> list[LiveEvent]:
        if words == self._shown:
            return []
        self._shown = words
        return [PartialWords(words, self.heard)]

    def _final(self, segments: list[Any]) -> list[LiveEvent]:
        if segments:
            self._shown = ()
            self._start = segments[0].start if self._start is None else self._start
            self._end = segments[-1].end
        return [FinalWords(segment, self.heard) for segment in segments]

    def _pause(self) -> list[LiveEvent]:
        """The utterance is over; nothing is said of one without words, but that those shown are none."""
        events = self._show(())
        if self._start is not None:
            events.append(EndOfUtterance(self._start, self._end, self.heard))
            self._start = None
        return events
