"""Who speaks, as a vector: recordings in, x-vectors of length one out."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource
from wavconformer.audio.vad import voice_detector
from wavconformer.audio.windows import Cutting, Windower
from wavconformer.errors import AudioError, CheckpointError
from wavconformer.files import Source
from wavconformer.scoring.calibration import CALIBRATION_FILE, Calibration
from wavconformer.tasks.batching import batches
from wavconformer.tasks.company import AHEAD_SECONDS, Company, Failure, OnError, batch_seconds_of
from wavconformer.tasks.heads import architecture_of, refuse_other_head
from wavconformer.tasks.recording import LongRecording, Recording, open_recording
from wavconformer.tasks.scores import no_numbers, outputs
from wavconformer.tasks.side_by_side import side_by_side

if TYPE_CHECKING:
    import torch

    from wavconformer.checkpoint.models import Wav2Vec2ConformerForXVector
    from wavconformer.processing import Wav2Vec2FeatureExtractor

Vectors = NDArray[np.float32]

SPEAKER_MODEL = "speakers"
"""The speaker model that ships with the package."""

# Recordings of at most one and a half times so many seconds are one window. Longer than most that a speaker model is
# trained on, and short enough that attention costs little.
WINDOW_SECONDS = 10.0
# Decibels of full scale below which nothing in a recording counts as sound.
_SILENT_DECIBELS = -70.0


class Embedder:
    """A speaker model with what makes its inputs: recordings in, vectors of length one out.

    Two recordings are the more likely of one speaker the higher the dot product of their vectors, which is their
    cosine (Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker recognition").
    """

    def __init__(
        self,
        model: Wav2Vec2ConformerForXVector,
        feature_extractor: Wav2Vec2FeatureExtractor,
        place: str = "the model",
        calibration: Calibration | None = None,
    ) -> None:
        """place: where the model comes from, for messages. calibration: what its scores mean, if that is known."""
        self.model = model
        self.feature_extractor = feature_extractor
        self.place = place
        self.calibration = calibration
        self.name = f"xvector-{_fingerprint(model)}"

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        device: torch.device | str | None = None,
        threads: int | None = None,
        dtype: torch.dtype | str | None = None,
        **source: Any,
    ) -> Embedder:
        """A speaker model of a folder or Hub repository; the one that ships with the package by default.

        Its calibration, if it has one, is read along.

        device: where it runs; the fastest at hand by default. threads: of the CPU, for the whole process.
        dtype: of the weights, float32 by default. source: revision, token and the like, as in `from_pretrained`.

        Raises CheckpointError where files are missing, and for a checkpoint without the head of a speaker model.
        """
        from wavconformer.auto import feature_extractor
        from wavconformer.checkpoint.models import Wav2Vec2ConformerForXVector
        from wavconformer.checkpoint.pretrained import default_device

        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        place = SPEAKER_MODEL if model is None else model
        folder = Source.take(place, dict(source))
        head = Wav2Vec2ConformerForXVector.__name__
        refuse_other_head(place, architecture_of(folder), task="telling speakers apart", head=head)
        extractor = feature_extractor(folder, **source)
        loaded, info = Wav2Vec2ConformerForXVector.from_pretrained(
            place, device=device or default_device(), dtype=dtype, output_loading_info=True, **source
        )
        if any(key.startswith(("projector.", "tdnn.", "feature_extractor.")) for key in info["missing_keys"]):
            raise CheckpointError(
                f"'{place}' holds no x-vector head (projector, tdnn, feature_extractor): it can't tell speakers apart "
                "before it is fine-tuned with task: xvector."
            )
        found = folder.find(CALIBRATION_FILE)
        return cls(loaded, extractor, str(place), None if found is None else Calibration.read(found))

    name: str
    """The identity of the weights: the same wherever they lie, another as soon as they differ. Vectors of models with
    different names can't be compared."""

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model takes, 16,000."""
        return int(self.feature_extractor.sampling_rate)

    @property
    def size(self) -> int:
        """Numbers in a vector, D."""
        return int(self.model.config.xvector_output_dim)

    @property
    def least_seconds(self) -> float:
        """The shortest audio of which the model can make a vector."""
        return self._least_samples / self.sampling_rate

    @property
    def _least_samples(self) -> int:
        from wavconformer.model.lengths import least_adapter_frames, least_samples, least_tdnn_frames

        config = self.model.config
        frames = least_tdnn_frames(config)
        if config.add_adapter and not config.use_weighted_layer_sum:
            frames = least_adapter_frames(config, frames)
        return least_samples(config, frames)

    def __call__(self, source: AudioSource, *, sampling_rate: int | None = None) -> Vectors:
        """The vector (D,) of one recording of any length.

        source: path, bytes, file object, or a mono array (S,). sampling_rate: of an array, by default the model's.

        What is longer than 15 s is cut at its pauses, which are left out, and its vector is the mean of its windows'
        by their lengths. Raises AudioError where the recording can't be read, is shorter than `least_seconds` or
        silent; CheckpointError where the model gives no numbers.
        """
        return next(self.each([source], sampling_rate=sampling_rate))

    def many(
        self, sources: Iterable[AudioSource], *, sampling_rate: int | None = None, batch_seconds: float | None = None
    ) -> Vectors:
        """The vectors (N, D) of recordings, those of like length computed together; as `each` otherwise."""
        found = list(self.each(sources, sampling_rate=sampling_rate, batch_seconds=batch_seconds))
        return np.stack(found) if found else np.empty((0, self.size), np.float32)

    @overload
    def each(
        self,
        sources: Iterable[AudioSource],
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> Iterator[Vectors]: ...
    @overload
    def each(
        self,
        sources: Iterable[AudioSource],
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        on_error: OnError,
    ) -> Iterator[Vectors | Failure]: ...
    def each(
        self,
        sources: Iterable[AudioSource],
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[Vectors | Failure]:
        """The vectors (D,) of recordings in their order; short ones are read some minutes of audio ahead.

        sources, sampling_rate: as a call takes them. batch_seconds: of audio that go through the model at once, by
        default what suits the device. What is computed for a recording doesn't depend on its company.
        on_error: "return" gives a recording's error in its place, and the others go on; else it is raised, as a call
        does, once the vectors of those before it are given.
        """
        most = batch_seconds_of(self.model, batch_seconds)
        numbers = count()
        company: Company[Vectors] = Company(
            self.model,
            open=lambda source: self._open(source, sampling_rate, next(numbers)),
            together=lambda recordings: [*self._run([one.waveform for one in recordings])],
            alone=lambda recording, _: self._long(recording, most),
            most=most,
            on_error=on_error,
        )
        yield from company(sources)

    def _open(self, source: AudioSource, source_rate: int | None, number: int) -> Recording | LongRecording:
        is_array = isinstance(source, np.ndarray)
        longest = Cutting(window_seconds=WINDOW_SECONDS).longest_seconds
        rate = self.sampling_rate
        recording = open_recording(source, rate, (source_rate or rate) if is_array else None, longest=longest)
        if is_array and number:
            recording = replace(recording, name=f"The given audio, number {number + 1}")
        if isinstance(recording, Recording):
            self._require_speech(recording)
        return recording

    def _require_speech(self, recording: Recording) -> None:
        if len(recording.waveform) < self._least_samples:
            raise AudioError(
                f"{recording.name} is {recording.duration:.2f} s long, but the speaker model needs at least "
                f"{math.ceil(100 * self.least_seconds) / 100:.2f} s of speech."
            )
        if not _has_sound(recording.waveform):
            raise AudioError(f"{recording.name} is silent: nobody can be told by it.")

    def _long(self, recording: LongRecording, most: float) -> Vectors:
        """The mean of the vectors of a recording's windows, which are embedded as it is read."""
        config = self.model.config
        windower = Windower(
            Cutting(window_seconds=WINDOW_SECONDS, context_seconds=0.0),
            rate=self.sampling_rate,
            hop=config.hop_length,
            field=config.receptive_field,
            detector=voice_detector("auto", self.sampling_rate),
        )
        total = np.zeros(self.size)
        held: list[NDArray[np.float32]] = []

        with closing(recording.blocks()) as blocks:
            for windows in chain(map(windower.feed, blocks), iter([None])):
                for window in windower.finish() if windows is None else windows:
                    if len(window.samples) >= self._least_samples and _has_sound(window.samples):
                        held.append(window.samples)
                if sum(map(len, held)) > AHEAD_SECONDS * self.sampling_rate:
                    total += self._sum(held, most)
                    held = []
        if recording.failure is not None:
            raise recording.failure
        total += self._sum(held, most)
        if not total.any():
            raise AudioError(f"{recording.name}: no speech was found in its {recording.heard / recording.rate:.0f} s.")
        vector: Vectors = _normalised(total[None])[0]
        return vector

    def _sum(self, waveforms: Sequence[NDArray[np.float32]], most: float) -> NDArray[np.float64]:
        """The sum (D,) of the vectors of waveforms (S,), each times its samples."""

        def weighted(group: list[int]) -> NDArray[np.float64]:
            vectors = self._run([waveforms[number] for number in group]).astype(np.float64)
            return np.array([len(waveforms[number]) for number in group], np.float64) @ vectors

        groups = batches([len(waveform) / self.sampling_rate for waveform in waveforms], most)
        made = side_by_side(weighted, groups) if self.model.device.type == "cpu" else map(weighted, groups)
        return sum(made, np.zeros(self.size))

    def _run(self, waveforms: Sequence[NDArray[np.float32]]) -> Vectors:
        """The vectors (B, D) of waveforms (S,), in one batch."""
        inputs = self.feature_extractor(
            list(waveforms),
            sampling_rate=self.sampling_rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="np",
        )
        embeddings = outputs(self.model, inputs["input_values"], inputs["attention_mask"]).embeddings
        vectors: Vectors = embeddings.float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise no_numbers(self.place, "embeddings")
        return _normalised(vectors)


def _has_sound(samples: NDArray[np.float32]) -> bool:
    return bool(np.ptp(samples) > 10 ** (_SILENT_DECIBELS / 20))


def _normalised(vectors: NDArray[np.floating]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


# Of each weight tensor so many values, evenly spread, go into the identity: two trainings share none of them.
_SAMPLED = 1024


def _fingerprint(model: Wav2Vec2ConformerForXVector) -> str:
    """Sixteen hexadecimal digits that change with the weights, not with where they lie or what they run on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().flatten()
        sampled = values[:: max(1, -(-values.numel() // _SAMPLED))].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sampled.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _loaded(name: str | None, device: str | None) -> Embedder:
    return Embedder.load(name, device=device)


def embedder_of(model: Embedder | str | os.PathLike[str] | None, device: torch.device | str | None = None) -> Embedder:
    """The embedder that a name means; the one named last is kept for the next call."""
    if isinstance(model, Embedder):
        if device is not None:
            raise ValueError("device goes with a model's name: one that is loaded has its own.")
        return model
    return _loaded(None if model is None else os.fspath(model), None if device is None else str(device))


def embed(
    source: AudioSource | list[AudioSource] | tuple[AudioSource, ...],
    *,
    model: Embedder | str | os.PathLike[str] | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
    batch_seconds: float | None = None,
) -> Vectors:
    """X-vectors of length one, of which two are compared by their dot product, the cosine.

    source: a path, bytes, file object or mono array (S,), which gives (D,); a list or tuple of such gives (N, D).
    model: what `Embedder.load` gave, or a name for it; the speaker model that ships with the package by default.
    sampling_rate: of arrays, by default the model's. device, batch_seconds: as `Embedder` takes them.

    The model named last is kept for the next call. Raises AudioError where a recording can't be read, is shorter than
    the model's least or silent; CheckpointError for a model without the head of a speaker model.
    """
    embedder = embedder_of(model, device)
    if isinstance(source, (list, tuple)):
        return embedder.many(source, sampling_rate=sampling_rate, batch_seconds=batch_seconds)
    return embedder(source, sampling_rate=sampling_rate)
