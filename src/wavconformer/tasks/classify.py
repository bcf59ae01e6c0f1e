"""What kind of sound: a recording in, probabilities by label out, and along its time where it is long."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource
from wavconformer.checkpoint.onnx_graph import OnnxModel, wants_onnx
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.decoding.classification import Classification, Verdict, problem_of
from wavconformer.errors import CheckpointError
from wavconformer.files import Source
from wavconformer.tasks.company import Company, Failure, OnError, batch_seconds_of
from wavconformer.tasks.heads import refuse_other_head
from wavconformer.tasks.recording import LongRecording, Recording, open_recording
from wavconformer.tasks.scores import Scores, outputs, refuse_short, scores

if TYPE_CHECKING:
    import torch

    from wavconformer.checkpoint.models import Wav2Vec2ConformerForSequenceClassification
    from wavconformer.processing import Wav2Vec2FeatureExtractor

DEFAULT_CLASSIFIER = "keywords"
HEAD = "Wav2Vec2ConformerForSequenceClassification"
WINDOW_SECONDS = 30.0
"""Of models that don't say how long the recordings were that they are trained on."""
LONGEST = 1.5
"""A recording of at most so many windows goes through the model whole."""


@dataclass(frozen=True)
class Listening:
    """How long recordings are heard.

    window_seconds: of each window. hop_seconds: from the start of one to that of the next; half a window by default.
    """

    window_seconds: float
    hop_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.window_seconds < math.inf:
            raise ValueError(f"window_seconds is {self.window_seconds}, but must be a positive number.")
        if self.hop_seconds is not None and not 0 < self.hop_seconds <= self.window_seconds:
            raise ValueError(
                f"hop_seconds is {self.hop_seconds}, but must be positive and at most the window's "
                f"{self.window_seconds:g} s: what lies between windows isn't heard."
            )

    def windows(self, blocks: Iterable[NDArray[np.float32]], rate: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First sample and samples (S,) of each window of a recording that comes in block by block.

        The last one ends with the recording. No more is held than a window and what came last.
        """
        size = round(self.window_seconds * rate)
        hop = max(1, round((self.hop_seconds or self.window_seconds / 2) * rate))
        held, base, start, heard = np.zeros(0, np.float32), 0, 0, 0
        for block in blocks:
            held = np.concatenate([held, block])
            heard += len(block)
            while start + size <= heard:
                yield start, held[start - base : start - base + size].copy()
                start += hop
            # Of the last window that was given a part belongs to the one that ends the recording.
            keep = max(base, start - hop)
            held, base = held[keep - base :].copy(), keep
        if heard > max(0, start - hop + size) or not start:
            first = max(0, heard - size)
            yield first, held[first - base :].copy()


class Classifier:
    """A sequence classification model with its feature extractor, ready to classify.

    labels: names of its outputs, in order. problem: what it answers, by the Hugging Face names of `problem_type`.
    window_seconds: of the windows in which long recordings are heard, if a call doesn't say otherwise.
    """

    def __init__(
        self,
        model: Wav2Vec2ConformerForSequenceClassification | OnnxModel,
        feature_extractor: Wav2Vec2FeatureExtractor,
        name: str = "the model",
    ) -> None:
        self.model = model
        self.feature_extractor = feature_extractor
        self.name = name
        config = model.config
        self.labels = tuple(str((config.id2label or {})[number]) for number in range(config.num_labels))
        self.problem = problem_of(config)
        self.window_seconds = _window_seconds(config, name)

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model takes, 16,000."""
        return int(self.feature_extractor.sampling_rate)

    def __call__(self, source: AudioSource, *, sampling_rate: int | None = None, **settings: Any) -> Classification:
        """Classifies one recording of any length; `settings` are those of `many`, but for its errors.

        source: path, bytes, file object, or, with their `sampling_rate`, a mono array or an iterable of such arrays.

        Raises AudioError where the recording can't be read, or is shorter than the model's first frame sees;
        CheckpointError where the model's scores are not numbers.
        """
        (result,) = self.many([source], sampling_rate=sampling_rate, **settings)
        assert isinstance(result, Classification)  # for errors are raised
        return result

    def many(
        self,
        sources: Iterable[AudioSource],
        *,
        sampling_rate: int | None = None,
        top: int | None = 3,
        threshold: float = 0.5,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        batch_seconds: float | None = None,
        on_error: OnError = "raise",
        on_progress: Callable[[int, float], None] | None = None,
    ) -> Iterator[Classification | Failure]:
        """Classifies recordings, those of like length together; the results come in the order of the sources.

        top: so many labels are told, best first; None for all.
        threshold: probability from which on a label holds, for models with several labels at once.
        window_seconds: recordings that last longer than one and a half of it are heard in windows of it; by default
            what the model's configuration says (`window_seconds`), else 30.
        hop_seconds: from one window's start to the next; half a window by default.
        batch_seconds: of audio that go through the model at once, by default what suits the device. What is computed
            for a recording doesn't depend on its company.
        on_error: "return" gives a recording's error in its place, and the others go on.
        on_progress: is told, while a long recording is heard, its number and the seconds that have been read.
        """
        verdict = Verdict(self.problem, self.labels, top, threshold)
        listening = Listening(self.window_seconds if window_seconds is None else window_seconds, hop_seconds)
        least = self.model.config.receptive_field
        if listening.window_seconds * self.sampling_rate < least:
            raise ValueError(
                f"window_seconds is {listening.window_seconds}, but {self.name} needs at least "
                f"{least / self.sampling_rate:.3f} s of audio."
            )
        most = batch_seconds_of(self.model, batch_seconds)
        company: Company[Classification] = Company(
            self.model,
            open=lambda source: open_recording(
                source, self.sampling_rate, sampling_rate, longest=LONGEST * listening.window_seconds
            ),
            together=lambda recordings: self._together(recordings, verdict),
            alone=lambda recording, tell: self._alone(recording, verdict, listening, most, tell),
            most=most,
            on_error=on_error,
        )
        yield from company(sources, on_progress)

    def _together(self, recordings: Sequence[Recording], verdict: Verdict) -> list[Classification]:
        """Short recordings, each as one window, in one batch."""
        refuse_short(recordings, self.model.config.receptive_field, self.sampling_rate)
        names = " and ".join(recording.name for recording in recordings)
        logits = self._logits([recording.waveform for recording in recordings], names)
        return [
            verdict([row], [(0.0, recording.duration)], recording.duration, recording.problems)
            for row, recording in zip(logits, recordings, strict=True)
        ]

    def _alone(
        self,
        recording: LongRecording,
        verdict: Verdict,
        listening: Listening,
        most: float,
        tell: Callable[[float], None],
    ) -> Classification:
        """A long recording, window by window."""
        rate = self.sampling_rate
        at_once = max(1, int(most // listening.window_seconds))
        logits: list[Scores] = []
        times: list[tuple[float, float]] = []
        waiting: list[NDArray[np.float32]] = []
        with closing(recording.blocks()) as blocks:
            for start, samples in listening.windows(blocks, rate):
                times.append((start / rate, (start + len(samples)) / rate))
                waiting.append(samples)
                if len(waiting) == at_once:
                    logits += self._logits(waiting, recording.name)
                    waiting = []
                    tell(recording.heard / rate)
        if recording.failure is not None:
            raise recording.failure
        if waiting:
            logits += self._logits(waiting, recording.name)
        return verdict(logits, times, recording.heard / rate, recording.problems)

    def _logits(self, waveforms: Sequence[NDArray[np.float32]], names: str) -> list[Scores]:
        """The outputs (L,) of each waveform (S,)."""
        return scores(self._run, self.feature_extractor, waveforms, model=self.name, names=names)

    def _run(self, input_values: NDArray[np.float32], attention_mask: NDArray[np.integer]) -> tuple[Scores, bool]:
        """Logits (B, L), and whether all of them are numbers."""
        if isinstance(self.model, OnnxModel):
            logits = self.model(input_values, attention_mask)
        else:
            logits = outputs(self.model, input_values, attention_mask).logits.float().cpu().numpy()
        return logits, bool(np.isfinite(logits).all())


def _window_seconds(config: Wav2Vec2ConformerConfig, name: str) -> float:
    """What a configuration says of it; Hugging Face's has no such field, and keeps it as any that it doesn't know."""
    told = config.extra.get("window_seconds", WINDOW_SECONDS)
    if not isinstance(told, (int, float)) or isinstance(told, bool) or not 0 < told < math.inf:
        raise CheckpointError(f"{name}: window_seconds in config.json is {told!r}, but must be a positive number.")
    return float(told)


def load_classifier(
    name: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    quantization: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    **source: Any,
) -> Classifier:
    """A sequence classification model with its feature extractor.

    name: a folder, a Hub repository, or the keyword model that ships with the package (None or "keywords").
    device, dtype, quantization, engine, threads, source: as `load_model` takes them.

    Raises CheckpointError where files are missing or don't fit together, and for a model of another kind, with what it
    is for.
    """
    from wavconformer.auto import feature_extractor, model_class

    place = DEFAULT_CLASSIFIER if name is None else name
    where = Source.take(place, dict(source))
    config = Wav2Vec2ConformerConfig.from_source(where)
    extractor = feature_extractor(where, **source)
    if wants_onnx(engine, where):
        if quantization is not None or str(device or "cpu") != "cpu" or dtype is not None:
            raise ValueError(
                "The engine 'onnx' runs a graph as it was written, on the CPU: leave device and dtype out, and give "
                "quantization to `wavconformer export`."
            )
        graph = OnnxModel.from_pretrained(place, threads=threads, **source)
        _require_head(place, graph.architecture)
        return Classifier(graph, extractor, str(place))
    _require_head(place, model_class(config, where).__name__)
    from wavconformer.checkpoint.models import Wav2Vec2ConformerForSequenceClassification
    from wavconformer.checkpoint.pretrained import default_device

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    model, info = Wav2Vec2ConformerForSequenceClassification.from_pretrained(
        place,
        dtype=dtype,
        device=device or ("cpu" if quantization else default_device()),
        quantization=quantization,
        output_loading_info=True,
        **source,
    )
    if any(key.split(".")[0] in ("projector", "classifier") for key in info["missing_keys"]):
        _require_head(place, "Wav2Vec2ConformerModel")
    return Classifier(model, extractor, str(place))


def _require_head(place: str | os.PathLike[str], architecture: str) -> None:
    """Raises CheckpointError for a model of another kind, with what it is for."""
    if architecture == HEAD:
        return
    refuse_other_head(place, architecture, task="`classify`", head=HEAD)
    raise CheckpointError(
        f"'{place}' holds no head that classifies: train one on it with `wavconformer finetune` (task: sequence)."
    )


@lru_cache(maxsize=1)
def _loaded(name: str | None, device: str | None) -> Classifier:
    return load_classifier(name, device=device)


@overload
def classify(source: list[Any] | tuple[Any, ...], **settings: Any) -> list[Classification | Failure]: ...
@overload
def classify(source: AudioSource, **settings: Any) -> Classification: ...
def classify(
    source: AudioSource | list[Any] | tuple[Any, ...],
    *,
    model: Classifier | str | os.PathLike[str] | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
    **settings: Any,
) -> Classification | list[Classification | Failure]:
    """Classifies a recording, or each of a list: keywords, languages, emotions, whatever the model was trained for.

    source: path, bytes, file object, or, with its `sampling_rate`, a mono array; or a list of such.
    model: what `load_classifier` gave, or a name for it; the keyword model that ships with the package by default.
    device: as `load_classifier` takes it; a model that is given has its own.
    settings: top, threshold, window_seconds, hop_seconds, batch_seconds and, of a list, on_error and on_progress, as
        `Classifier.many` takes them.

    Returns a `Classification`; of a list a list of them in its order, with on_error="return" an error in place of what
    can't be read. The model named last is kept for the next call. Raises AudioError, CheckpointError and ValueError.
    """
    if not isinstance(model, Classifier):
        model = _loaded(None if model is None else os.fspath(model), None if device is None else str(device))
    elif device is not None:
        raise ValueError("device goes with a model's name: one that is loaded has its own.")
    if isinstance(source, (list, tuple)):
        return list(model.many(source, sampling_rate=sampling_rate, **settings))
    return model(source, sampling_rate=sampling_rate, **settings)


__all__ = ["Classification", "Classifier", "classify", "load_classifier"]
