"""Where somebody speaks: a probability for each short frame, and the spans of speech that follow from it.

Two detectors take a recording as it comes in: Silero's small network, and the loudness alone.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import WavConformerError

DETECTORS = ("auto", "silero", "energy", "off")

# Spans: hysteresis, so that a probability in between changes nothing, and what is too short to be a word or a pause.
SPEECH = 0.5
SILENCE = 0.35
LEAST_SPEECH = 0.1  # seconds
LEAST_PAUSE = 0.2


class VoiceDetector(Protocol):
    """Tells speech from everything else, for one recording. frame: samples that one probability is of."""

    frame: int

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes the next samples (S,) and gives the probabilities of speech in the frames that are decided by now."""

    def finish(self) -> NDArray[np.float32]:
        """Those of the frames that remain at the end; the last one may be filled up with silence."""


def voice_detector(kind: str, rate: int) -> VoiceDetector | None:
    """A fresh detector.

    kind: "silero", "energy", "auto" for the first of them that can be had, "off" for None. rate: samples per second.

    Raises WavConformerError where silero isn't installed or doesn't take this rate.
    """
    if kind == "off":
        return None
    if kind == "silero" or (kind == "auto" and rate == SileroDetector.rate and _silero_path() is not None):
        return SileroDetector(rate)
    return EnergyDetector(rate)


def has_speech(samples: NDArray[np.float32], kind: str, rate: int) -> bool:
    """Whether somebody speaks in samples (S,). kind: the detector, as `voice_detector` has it; "off" says so always."""
    detector = voice_detector(kind, rate)
    if detector is None:
        return True
    spans = SpeechSpans(detector.frame, rate)
    found = spans.feed(np.concatenate([detector.feed(samples), detector.finish()]))
    return bool(found or spans.finish())


class SpeechSpans:
    """Spans of speech, from the probabilities of frames as they come in.

    frame: samples in a frame. rate: samples per second.
    """

    def __init__(self, frame: int, rate: int) -> None:
        self._frame = frame
        self._least_speech = LEAST_SPEECH * rate
        self._least_pause = LEAST_PAUSE * rate
        self._start: int | None = None
        self._quiet: int | None = None  # since when, within a span
        self.decided = 0
        """Samples whose probabilities are known."""

    @property
    def open(self) -> int | None:
        """Where the speech begins that hasn't ended yet; None in silence, and for what may be too short."""
        if self._start is None or self.until - self._start < self._least_speech:
            return None
        return self._start

    @property
    def until(self) -> int:
        """Up to where the speech that hasn't ended is known of."""
        return self.decided if self._quiet is None else self._quiet

    @property
    def since(self) -> int:
        """No span that is yet to come begins before this sample."""
        return self.decided if self._start is None else self._start

    def feed(self, probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
        """First sample, and the sample after the last, of each span that is known to have ended."""
        ended = []
        for probability in probabilities.tolist():
            if probability >= SPEECH:
                if self._start is None:
                    self._start = self.decided
                self._quiet = None
            elif self._start is not None:
                if probability < SILENCE and self._quiet is None:
                    self._quiet = self.decided
                if self._quiet is not None and self.decided + self._frame - self._quiet >= self._least_pause:
                    ended += self._end(self._quiet)
            self.decided += self._frame
        return ended

    def finish(self) -> list[tuple[int, int]]:
        """The span that the end of the recording ends, if there is one."""
        return [] if self._start is None else self._end(self.until)

    def _end(self, stop: int) -> list[tuple[int, int]]:
        start, self._start, self._quiet = self._start, None, None
        return [(start, stop)] if start is not None and stop - start >= self._least_speech else []


class EnergyDetector:
    """Speech is where some bands of frequencies are louder than a moment shortly before and one shortly after.

    The loudness of a voice rises and falls in each band, also where all of it together goes on, and stands out of noise
    in some. That of noise doesn't, and where noise begins or ends it does one of the two alone.

    A fallback: it takes for speech whatever comes and goes as speech does, music and clatter too.
    """

    _BANDS = np.arange(150, 4_151, 500)  # Hz, the edges: no hum, and no hiss
    _LOUDEST = 3  # bands that count: those that stand out most
    _SMOOTH = 3  # frames that a loudness is averaged over
    _NEAR = 1.0  # seconds, on either side, in which the quietest moment is sought
    _ABOVE, _SLOPE = 6.5, 1.5  # dB over it at which the odds are even, and by which they change e-fold
    _FLOOR = -80.0  # dB of full scale, in a band; below that nothing is heard

    def __init__(self, rate: int) -> None:
        self.frame = max(1, round(0.032 * rate))
        self._near = round(self._NEAR * rate / self.frame)
        # Without the taper hum and offset, which are loud, would be heard in all bands.
        self._taper = np.hanning(self.frame + 1)[:-1]
        frequencies = np.fft.rfftfreq(self.frame, 1 / rate)
        edges = np.searchsorted(frequencies, self._BANDS)
        self._edges = edges[edges < len(frequencies)]
        self._rest = np.zeros(0, np.float32)
        self._levels = np.zeros((0, len(self._edges) - 1))  # dB, of the frames that decisions still need
        self._past = 0  # of these, frames that are decided

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `VoiceDetector.feed`; the last second waits for what follows it."""
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // self.frame
        self._rest = samples[count * self.frame :].copy()
        self._add(samples[: count * self.frame].reshape(count, self.frame))
        return self._decided(len(self._levels) - self._near - self._SMOOTH // 2)

    def finish(self) -> NDArray[np.float32]:
        """As `VoiceDetector.finish`."""
        if len(self._rest):
            self._add(np.pad(self._rest, (0, self.frame - len(self._rest)))[None])
            self._rest = self._rest[:0]
        return self._decided(len(self._levels))

    def _add(self, frames: NDArray[np.float32]) -> None:
        """Measures how loud each band is in frames (T, `frame`): a sine of full scale has 0 dB."""
        spectra = np.square(np.abs(np.fft.rfft(frames * self._taper)))
        powers = np.add.reduceat(spectra, self._edges, axis=1)[:, :-1]  # the last is of all above the last edge
        powers *= 4 / (self.frame * np.square(self._taper).sum())
        self._levels = np.concatenate([self._levels, 10 * np.log10(powers + 1e-12)])

    def _decided(self, until: int) -> NDArray[np.float32]:
        """Probabilities of the frames that aren't decided yet, up to `until`."""
        if until <= self._past:
            return np.zeros(0, np.float32)
        half = self._SMOOTH // 2
        around = np.pad(self._levels, ((half, half), (0, 0)), mode="edge")
        smooth = np.lib.stride_tricks.sliding_window_view(around, self._SMOOTH, axis=0).mean(-1)
        # Beyond both ends it is silent.
        padded = np.pad(smooth, ((self._near, self._near), (0, 0)), constant_values=self._FLOOR)
        least = np.lib.stride_tricks.sliding_window_view(padded, self._near + 1, axis=0).min(-1)
        floor = np.maximum(least[self._past : until], least[self._past + self._near : until + self._near])
        above = smooth[self._past : until] - np.maximum(floor, self._FLOOR)
        odds = (np.sort(above, axis=1)[:, -self._LOUDEST :].mean(1) - self._ABOVE) / self._SLOPE
        drop = max(0, until - self._near - half)
        self._levels = self._levels[drop:]
        self._past = until - drop
        probabilities: NDArray[np.float32] = (1 / (1 + np.exp(-np.clip(odds, -30, 30)))).astype(np.float32)
        return probabilities


class SileroDetector:
    """Silero's network (github.com/snakers4/silero-vad), many frames in one run of ONNX Runtime.

    Its model is taken out of the wheel, whose code isn't imported: that would set PyTorch's threads.
    """

    rate = 16_000
    frame = 512
    _CONTEXT = 64  # samples before a frame that the network sees
    _MOST = 512  # frames in one run

    def __init__(self, rate: int) -> None:
        """Raises WavConformerError where it isn't installed, or `rate` isn't 16,000 samples per second."""
        if rate != self.rate:
            raise WavConformerError(
                f"Silero's detector takes {self.rate} samples a second, not {rate}: use vad='energy' or vad='off'."
            )
        self._session = _silero_session()
        self._rest = np.zeros(self._CONTEXT, np.float32)  # the context, then what doesn't fill a frame yet
        self._state = [np.zeros((1, 1, 128), np.float32) for _ in range(2)]

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `VoiceDetector.feed`."""
        samples = np.concatenate([self._rest, samples.astype(np.float32, copy=False)])
        count = (len(samples) - self._CONTEXT) // self.frame
        self._rest = samples[count * self.frame :].copy()
        found = [np.zeros(0, np.float32)]
        for first in range(0, count, self._MOST):
            after = min(first + self._MOST, count)
            part = samples[first * self.frame : after * self.frame + self._CONTEXT]
            windows = np.lib.stride_tricks.sliding_window_view(part, self._CONTEXT + self.frame)[:: self.frame]
            feed = {"input": np.ascontiguousarray(windows), "h": self._state[0], "c": self._state[1]}
            probabilities, *self._state = self._session.run(["speech_probs", "hn", "cn"], feed)
            found.append(probabilities)
        return np.concatenate(found)

    def finish(self) -> NDArray[np.float32]:
        """As `VoiceDetector.finish`."""
        left = len(self._rest) - self._CONTEXT
        return self.feed(np.zeros(self.frame - left, np.float32)) if left else np.zeros(0, np.float32)


def _silero_path() -> Path | None:
    """Where the installed wheel has the network; None where it or ONNX Runtime isn't installed."""
    wheel = find_spec("silero_vad")
    if wheel is None or find_spec("onnxruntime") is None:
        return None
    for folder in wheel.submodule_search_locations or ():
        path = Path(folder) / "data" / "silero_vad_16k_sequence.onnx"
        if path.is_file():
            return path
    return None


@lru_cache(maxsize=1)
def _silero_session() -> Any:
    path = _silero_path()
    if path is None:
        raise WavConformerError(
            "vad='silero' needs more packages: pip install 'wavconformer[vad]'. Without them vad='energy' goes by "
            "loudness alone."
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1  # its products are small
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
