"""What is heard in the windows of a recording: who speaks in each, and their voices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio.windows import sliding
from wavconformer.data.frames import encoder_frames
from wavconformer.data.rttm import stretches
from wavconformer.decoding.activity import SpeakerLabels
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


@dataclass(frozen=True)
class Local:
    """A window as heard, and of each of its columns the voice (D,), with the seconds that it was made of, if any."""

    heard: Heard
    vectors: list[NDArray[np.float32] | None]
    seconds: list[float]


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
        *,
        bounds: tuple[int, int | None] | None = None,
        batch_seconds: float | None = None,
        progress: Callable[[float], None] = lambda seconds: None,
    ) -> list[Local]:
        """What is heard in each window that has sound, and the voices in it.

        window_seconds, step_seconds: of a window, and from one to the next.
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
                    local += [Local(one, [None] * one.active.shape[1], [0.0] * one.active.shape[1]) for one in heard]
                else:
                    local += self._with_voices(heard, [samples for _, samples in loud])
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

    def _with_voices(self, heard: Sequence[Heard], waveforms: Sequence[Samples]) -> list[Local]:
        """Windows with the vectors of those who speak in them."""
        local: list[Local] = []
        places: list[tuple[int, int]] = []
        cuts: list[Samples] = []
        for number, (window, samples) in enumerate(zip(heard, waveforms, strict=True)):
            count = window.active.shape[1]
            local.append(Local(window, [None] * count, [0.0] * count))
            for column in np.flatnonzero(window.active.any(0)).tolist():
                cut, clear = self._cut(window, column, samples)
                if _has_sound(cut):
                    local[-1].seconds[column] = clear
                    places.append((number, column))
                    cuts.append(cut)
        if cuts:
            for (number, column), vector in zip(places, self.embedder.many(cuts), strict=True):
                local[number].vectors[column] = np.asarray(vector, np.float32)
        return local

    def _cut(self, window: Heard, column: int, samples: Samples) -> tuple[Samples, float]:
        """The sound of a window's speaker, and how many seconds of it are without another's.

        Where these are too few for a vector, all of the speaker's sound is taken, over again if need be.
        """
        rate = self.sampling_rate
        least = math.ceil(self.embedder.least_seconds * rate)
        active = window.active[:, column]
        alone = self._samples_of(active & (window.active.sum(1) == 1), samples)
        if len(alone) >= least:
            return alone, len(alone) / rate
        every = self._samples_of(active, samples)
        return np.resize(every, max(least, len(every))) if len(every) else every, len(alone) / rate

    def _samples_of(self, active: NDArray[np.bool_], samples: Samples) -> Samples:
        """The samples of those frames (T,) of a window."""
        hop, lead = self.model.config.hop_length, self._lead
        spoken = [samples[:0]]
        for start, end, _ in stretches(active[:, None], 1.0):
            spoken.append(samples[lead + int(start) * hop : lead + int(end) * hop])
        return np.concatenate(spoken)

    @property
    def _lead(self) -> int:
        """Samples before the first frame's own: a frame is of the hop in the middle of what it sees."""
        return max(0, self.model.config.receptive_field - self.model.config.hop_length) // 2


def _is_within(count: int, bounds: tuple[int, int | None]) -> bool:
    return bounds[0] <= count and (bounds[1] is None or count <= bounds[1])


def _count(heard: Heard) -> int:
    return int(heard.active.any(0).sum())


def _has_sound(samples: Samples) -> bool:
    return len(samples) > 0 and bool(np.ptp(samples) > _SILENT)
