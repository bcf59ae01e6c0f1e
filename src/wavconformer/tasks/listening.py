"""What is heard in the windows of a recording: who speaks in each, and their voices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio.windows import sliding
from wavconformer.data.frames import encoder_frames
from wavconformer.data.rttm import stretches
from wavconformer.decoding.activity import SpeakerLabels
from wavconformer.decoding.clusters import Vectors, unit
from wavconformer.decoding.stitching import Heard
from wavconformer.errors import CheckpointError, ConfigError
from wavconformer.tasks.batching import ACCELERATOR_SECONDS
from wavconformer.tasks.embedding import Embedder
from wavconformer.tasks.recording import LongRecording
from wavconformer.tasks.scores import no_numbers, outputs, too_short
from wavconformer.tasks.side_by_side import side_by_side

if TYPE_CHECKING:
    from wavconformer.checkpoint.models import Wav2Vec2ConformerForAudioFrameClassification
    from wavconformer.processing import Wav2Vec2FeatureExtractor

Samples = NDArray[np.float32]

# Windows that are read before any of them runs: enough to share the cores.
_AHEAD = 8
# From the loudest to the lowest sample; a window with less is silent.
_SILENT = 1e-3
# Seconds of a piece from which on it has a voice of its own.
_OWN = 0.4
# Of the mean voice of a window's speaker so much is added to that of each of their pieces. None would trust the speaker
# model alone, which errs with short pieces; much of it the frame head, which mixes people up in one column.
_SHARED = 0.25


@dataclass(frozen=True)
class Piece:
    """What a window's speaker says without a break, or a part of it.

    column: of the window. start, stop: its first frame in the window, and the one after its last. vector: (D,) its
    voice. seconds: of sound in it in which nobody else speaks.
    """

    column: int
    start: int
    stop: int
    vector: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True)
class Local:
    """A window as heard, and the pieces in it by time; none where no voices were asked for."""

    heard: Heard
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class _Spoken:
    """What a window's speaker says, before its voices are made.

    spans: frames of the pieces, start and stop. clear: of each the sound in which nobody else speaks. has_own: whether
    that is enough for a voice. sounds: which voices are to be made of: those pieces, or, without any, the speaker.
    """

    column: int
    spans: list[tuple[int, int]]
    clear: list[Samples]
    has_own: list[bool]
    sounds: list[Samples]

    def pieces(self, vectors: Vectors, rate: int) -> list[Piece]:
        """The pieces with the vectors (N, D) of `sounds`."""
        lengths = np.array([len(sound) for sound in self.sounds], np.float64)
        mean = unit(lengths @ vectors)
        own = iter(unit(vectors + _SHARED * mean) if any(self.has_own) else ())
        return [
            Piece(self.column, start, stop, next(own) if has_own else mean, len(sound) / rate)
            for (start, stop), sound, has_own in zip(self.spans, self.clear, self.has_own, strict=True)
        ]


class Listener:
    """A frame head, which says who speaks in a window, and a speaker model, which makes vectors of their voices."""

    def __init__(
        self,
        model: Wav2Vec2ConformerForAudioFrameClassification,
        feature_extractor: Wav2Vec2FeatureExtractor,
        embedder: Callable[[], Embedder],
        place: str = "the model",
    ) -> None:
        """embedder: gives the speaker model; it is asked once that is needed. place: of the model, for messages.

        Raises CheckpointError where the labels of the model's head don't say who speaks.
        """
        self.model = model
        self.feature_extractor = feature_extractor
        self.place = place
        self._load_embedder = embedder
        self._embedder: Embedder | None = None
        try:
            self.labels = SpeakerLabels.of(model.config)
        except ConfigError as error:
            raise CheckpointError(f"{place}: {error}") from error

    @property
    def embedder(self) -> Embedder:
        """The speaker model, loaded when it is first asked for."""
        if self._embedder is None:
            self._embedder = self._load_embedder()
        return self._embedder

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model takes, 16,000."""
        return int(self.feature_extractor.sampling_rate)

    def listen(
        self,
        recording: LongRecording,
        window_seconds: float,
        step_seconds: float,
        piece_seconds: float,
        *,
        bounds: tuple[int, int | None] | None = None,
        batch_seconds: float | None = None,
        progress: Callable[[float], None] = lambda seconds: None,
    ) -> list[Local]:
        """What is heard in each window that has sound, and the voices in it.

        window_seconds, step_seconds: of a window, and from one to the next. piece_seconds: of a piece, about.
        bounds: so many speakers need no vectors where there is but one window; None where vectors are wanted anyway.
        batch_seconds: of audio that go through the frame head at once, by default what suits the device.
        progress: is told the seconds that have been read.

        Raises AudioError where the recording can't be read or is shorter than one frame.
        """
        config = self.model.config
        least = config.receptive_field
        local: list[Local] = []
        with closing(recording.blocks()) as blocks:
            windows = sliding(
                blocks,
                self._on_grid(window_seconds) + max(0, config.receptive_field - config.hop_length),
                self._on_grid(step_seconds),
                config.hop_length,
            )
            while group_ := list(islice(windows, _AHEAD)):
                is_only = not local and len(group_) == 1  # one window, which has all of the recording
                loud = [(start, samples) for start, samples in group_ if len(samples) >= least and _has_sound(samples)]
                heard = self._hear(loud, batch_seconds)
                if is_only and bounds is not None and all(_is_within(_count(one), bounds) for one in heard):
                    local += map(Local, heard)
                else:
                    local += self._with_voices(heard, [samples for _, samples in loud], piece_seconds)
                progress(recording.heard / recording.rate)
        if recording.failure is not None:
            raise recording.failure
        if recording.heard < least:
            raise too_short(recording.name, recording.heard / recording.rate, least / recording.rate)
        return local

    def _on_grid(self, seconds: float) -> int:
        """So many samples, in whole frames."""
        hop = self.model.config.hop_length
        return max(1, round(seconds * self.sampling_rate / hop)) * hop

    def _hear(self, windows: Sequence[tuple[int, Samples]], batch_seconds: float | None) -> list[Heard]:
        """What the frame head says of windows, each with its first sample's number."""
        is_cpu = self.model.device.type == "cpu"
        most = batch_seconds or (0.0 if is_cpu else ACCELERATOR_SECONDS)  # alone, a window fills a core
        size = max(1, int(most * self.sampling_rate / max((len(samples) for _, samples in windows), default=1)))
        batches = [windows[first : first + size] for first in range(0, len(windows), size)]

        def run(batch: Sequence[tuple[int, Samples]]) -> list[Heard]:
            starts = [start for start, _ in batch]
            return self._heard(starts, self._logits([samples for _, samples in batch]))

        made = side_by_side(run, batches) if is_cpu else map(run, batches)
        return [heard for batch in made for heard in batch]

    def _heard(self, starts: Sequence[int], logits: Sequence[NDArray[np.float32]]) -> list[Heard]:
        return [
            Heard(
                start // self.model.config.hop_length,
                self.labels.active(one),
                np.round(255 * self.labels.probabilities(one)).astype(np.uint8),
            )
            for start, one in zip(starts, logits, strict=True)
        ]

    def _logits(self, waveforms: Sequence[Samples]) -> list[NDArray[np.float32]]:
        """Logits (T, V) of each waveform (S,), which go through the model together."""
        inputs = self.feature_extractor(
            list(waveforms),
            sampling_rate=self.sampling_rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="np",
        )
        logits = outputs(self.model, inputs["input_values"], inputs["attention_mask"]).logits
        made: NDArray[np.float32] = logits.float().cpu().numpy()
        if not np.isfinite(made).all():
            raise no_numbers(self.place)
        return [row[: self._frames(len(samples))] for row, samples in zip(made, waveforms, strict=True)]

    def _frames(self, samples: int) -> int:
        return encoder_frames(samples, self.model.config)

    # Voices

    def _with_voices(self, heard: Sequence[Heard], waveforms: Sequence[Samples], piece_seconds: float) -> list[Local]:
        """Windows with the pieces that those who speak in them say."""
        every = [self._spoken(window, samples, piece_seconds) for window, samples in zip(heard, waveforms, strict=True)]
        sounds = [sound for spoken in every for one in spoken for sound in one.sounds]
        vectors = self.embedder.many(sounds) if sounds else np.empty((0, 0), np.float32)
        first, local = 0, []
        for window, spoken in zip(heard, every, strict=True):
            pieces: list[Piece] = []
            for one in spoken:
                pieces += one.pieces(vectors[first : first + len(one.sounds)], self.sampling_rate)
                first += len(one.sounds)
            local.append(Local(window, tuple(sorted(pieces, key=lambda piece: piece.start))))
        return local

    def _spoken(self, window: Heard, samples: Samples, piece_seconds: float) -> list[_Spoken]:
        """What those who have sound say in a window."""
        least = math.ceil(max(_OWN, self.embedder.least_seconds) * self.sampling_rate)
        frames = piece_seconds * self.sampling_rate / self.model.config.hop_length
        alone = window.active & (window.active.sum(1, keepdims=True) == 1)
        found = []
        for column in np.flatnonzero(window.active.any(0)).tolist():
            spans = _parts(window.active[:, column], frames)
            clear = [self._samples_of(alone[:, column], samples, *span) for span in spans]
            has_own = [len(sound) >= least and _has_sound(sound) for sound in clear]
            sounds = [sound for sound, is_enough in zip(clear, has_own, strict=True) if is_enough]
            if not sounds:
                sound = self._whole(alone[:, column], window.active[:, column], samples)
                sounds = [sound] if _has_sound(sound) else []
            if sounds:
                found.append(_Spoken(column, spans, clear, has_own, sounds))
        return found

    def _whole(self, alone: NDArray[np.bool_], active: NDArray[np.bool_], samples: Samples) -> Samples:
        """The sound of a window's speaker, as far as possible without another's, over again if need be."""
        least = math.ceil(self.embedder.least_seconds * self.sampling_rate)
        clear = self._samples_of(alone, samples)
        if len(clear) >= least:
            return clear
        every = self._samples_of(active, samples)
        return np.resize(every, max(least, len(every))) if len(every) else every

    def _samples_of(
        self, active: NDArray[np.bool_], samples: Samples, start: int = 0, stop: int | None = None
    ) -> Samples:
        """The samples of a window's frames (T,), of those from start to stop."""
        hop, lead = self.model.config.hop_length, self._lead + start * self.model.config.hop_length
        spoken = [samples[lead + first * hop : lead + last * hop] for first, last in _runs(active[start:stop])]
        return np.concatenate([samples[:0], *spoken])

    @property
    def _lead(self) -> int:
        """Samples before the first frame's own: a frame is of the hop in the middle of what it sees."""
        return max(0, self.model.config.receptive_field - self.model.config.hop_length) // 2


def _runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of the stretches in which (T,) is true."""
    return [(int(start), int(stop)) for start, stop, _ in stretches(active[:, None], 1.0)]


def _parts(active: NDArray[np.bool_], frames: float) -> list[tuple[int, int]]:
    """The same, long ones in parts of equal length, about so many frames each."""
    found: list[tuple[int, int]] = []
    for start, stop in _runs(active):
        edges = np.linspace(start, stop, max(1, round((stop - start) / frames)) + 1).round().astype(int)
        found += pairwise(edges.tolist())
    return found


def _is_within(count: int, bounds: tuple[int, int | None]) -> bool:
    return bounds[0] <= count and (bounds[1] is None or count <= bounds[1])


def _count(heard: Heard) -> int:
    return int(heard.active.any(0).sum())


def _has_sound(samples: Samples) -> bool:
    return len(samples) > 0 and bool(np.ptp(samples) > _SILENT)
