"""Speech to text: a recording in, its words out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE, AudioSource, load_audio
from wavconformer.checkpoint.onnx_graph import GRAPH, OnnxModel
from wavconformer.decoding.greedy import greedy
from wavconformer.decoding.words import Word, words
from wavconformer.errors import AudioError, CheckpointError, WavConformerError
from wavconformer.files import DEFAULT_MODEL, Source, read_json
from wavconformer.processing.vocabulary import is_nested
from wavconformer.tasks.batching import ACCELERATOR_SECONDS, CPU_SECONDS, batches

if TYPE_CHECKING:
    import torch

    from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC
    from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2Processor


# Batches' worth of audio that are read before the first of them runs: enough to find company of like length.
AHEAD = 20
AHEAD_SECONDS = 600.0


@dataclass(frozen=True)
class Transcript:
    """What was said.

    text: all of it. words: each with its start and end in seconds. duration: seconds of audio.
    """

    text: str
    words: tuple[Word, ...]
    duration: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Recording:
    """A waveform (S,) at the model's rate, what messages call it, and its length in seconds."""

    waveform: NDArray[np.float32]
    name: str
    duration: float

    @classmethod
    def load(cls, source: AudioSource, rate: int, source_rate: int | None = None) -> Recording:
        """Reads a source; an array comes with its `source_rate`, a file says its own.

        Raises AudioError where it can't be read, ValueError for an array without its rate.
        """
        if isinstance(source, np.ndarray) != (source_rate is not None):
            raise ValueError("sampling_rate goes with an array of samples, and only with one: a file says its own.")
        waveform = load_audio(source, sampling_rate=rate, source_rate=source_rate)
        return cls(waveform, describe(source), len(waveform) / rate)


class Transcriber:
    """A CTC model with its processor, ready to transcribe."""

    def __init__(
        self, model: Wav2Vec2ConformerForCTC | OnnxModel, processor: Wav2Vec2Processor, name: str = "the model"
    ) -> None:
        """Raises CheckpointError where the vocabulary and the model's head don't belong together."""
        self.model = model
        self.processor = processor
        self.name = name
        self.blank = model.config.pad_token_id or 0
        head = model.config.vocab_size or 0
        if processor.tokenizer.pad_token_id != self.blank:
            raise CheckpointError(
                f"{name}: the tokenizer's padding token has the id {processor.tokenizer.pad_token_id}, but the model's "
                f"blank is {self.blank} (pad_token_id in config.json). They must be the same."
            )
        unnamed = sorted(set(range(head)) - set(processor.tokenizer.get_vocab().values()))
        if unnamed:
            raise CheckpointError(
                f"{name}: the model's head has {head} tokens, but the vocabulary has none for {len(unnamed)} of them, "
                f"the first of id {unnamed[0]}: vocab.json isn't that of these weights."
            )
        self._symbols = _symbols(processor.tokenizer, head)

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model takes, 16,000."""
        return int(self.processor.feature_extractor.sampling_rate)

    def __call__(self, source: AudioSource, *, sampling_rate: int | None = None) -> Transcript:
        """Transcribes one recording.

        source: path, bytes, file object, or a mono array with its `sampling_rate`.

        Digital silence gives an empty text. Raises AudioError where the recording can't be read, is shorter than one
        frame (25 ms), or needs more memory than there is; CheckpointError where the model's scores are not numbers.
        """
        (transcript,) = self.together([Recording.load(source, self.sampling_rate, sampling_rate)])
        return transcript

    def many(
        self,
        sources: Iterable[AudioSource],
        *,
        sampling_rate: int | None = None,
        batch_seconds: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[Transcript | WavConformerError | OSError | ValueError]:
        """Transcribes recordings, those of like length together; the results come in the order of the sources.

        sources, sampling_rate: each as `__call__` takes it. They are read some minutes of audio ahead, no further.
        batch_seconds: of audio that go through the model at once, by default what suits the device. What is computed
            for a recording doesn't depend on its company.
        on_error: "return" gives a recording's error in its place, and the others go on.
        """
        most = self._batch_seconds if batch_seconds is None else batch_seconds
        if not most > 0:
            raise ValueError(f"batch_seconds is {batch_seconds}, but must be positive.")
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {on_error!r}, but must be 'raise' or 'return'.")
        enough = max(most, min(AHEAD * most, AHEAD_SECONDS))
        window: list[Recording | WavConformerError | OSError | ValueError] = []
        ahead = 0.0
        for source in sources:
            try:
                recording = Recording.load(source, self.sampling_rate, sampling_rate)
            except (WavConformerError, OSError, ValueError) as error:
                if on_error == "raise":
                    yield from self._window(window, most, on_error)  # what was read before it isn't lost
                    raise
                window.append(error)
                continue
            window.append(recording)
            ahead += recording.duration
            if ahead >= enough:
                yield from self._window(window, most, on_error)
                window, ahead = [], 0.0
        yield from self._window(window, most, on_error)

    def _window(
        self, items: list[Recording | WavConformerError | OSError | ValueError], most: float, on_error: str
    ) -> Iterator[Transcript | WavConformerError | OSError | ValueError]:
        results: dict[int, Transcript | WavConformerError | OSError | ValueError] = {}
        numbers = [number for number, item in enumerate(items) if isinstance(item, Recording)]
        recordings = [item for item in items if isinstance(item, Recording)]
        for group in batches([recording.duration for recording in recordings], most):
            chosen = [recordings[place] for place in group]
            for place, result in zip(group, self._attempt(chosen, on_error), strict=True):
                results[numbers[place]] = result
        for number, item in enumerate(items):
            yield results[number] if isinstance(item, Recording) else item

    def _attempt(
        self, recordings: list[Recording], on_error: str
    ) -> list[Transcript | WavConformerError | OSError | ValueError]:
        """All together; where that fails each alone, so that only the one at fault has the error."""
        try:
            return [*self.together(recordings)]
        except WavConformerError as error:
            if len(recordings) > 1:
                return [result for recording in recordings for result in self._attempt([recording], on_error)]
            if on_error == "raise":
                raise
            return [error]

    @property
    def _batch_seconds(self) -> float:
        is_cpu = isinstance(self.model, OnnxModel) or self.model.device.type == "cpu"
        return CPU_SECONDS if is_cpu else ACCELERATOR_SECONDS

    def together(self, recordings: Sequence[Recording]) -> list[Transcript]:
        """Transcribes recordings in one batch. Raises as `__call__` does, for any of them."""
        least = self.model.config.receptive_field
        for recording in recordings:
            if len(recording.waveform) < least:
                raise AudioError(
                    f"{recording.name} is {recording.duration * 1000:.1f} ms long, but the model needs at least "
                    f"{least / self.sampling_rate * 1000:.0f} ms of audio."
                )
        heard = [recording for recording in recordings if np.ptp(recording.waveform)]
        ids = iter(self._frame_ids(heard) if heard else [])
        return [
            self._transcript(recording, next(ids))
            if np.ptp(recording.waveform)
            else Transcript("", (), recording.duration)
            for recording in recordings
        ]

    def _transcript(self, recording: Recording, frame_ids: NDArray[np.int64]) -> Transcript:
        tokens = greedy(frame_ids, self.blank)
        found = words(tokens, self._symbols, self.model.config.hop_length / self.sampling_rate)
        return Transcript(" ".join(word.text for word in found), found, recording.duration)

    def _frame_ids(self, recordings: list[Recording]) -> list[NDArray[np.int64]]:
        """The likeliest token of each frame (T,) of each recording."""
        names = " and ".join(recording.name for recording in recordings)
        try:
            inputs = self.processor.feature_extractor(
                [recording.waveform for recording in recordings],
                sampling_rate=self.sampling_rate,
                padding=True,
                return_attention_mask=True,
                return_tensors="np",
            )
            ids, finite = self._run(**inputs)
        except AudioError as error:
            raise AudioError(f"{names}: {error}") from error
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise AudioError(
                f"{names}: {max(recording.duration for recording in recordings):.0f} s is too long to transcribe at "
                "once in this machine's memory: cut it into parts."
            ) from error
        if not finite:
            raise CheckpointError(
                f"{self.name} gives NaN or infinite scores: its weights are broken, or too large for their type. "
                "`wavconformer check` tells more."
            )
        return list(ids)  # frames beyond a recording's end are certainly blank, and so come to nothing

    def _run(
        self, input_values: NDArray[np.float32], attention_mask: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], bool]:
        """The likeliest tokens (B, T), and whether all scores are numbers."""
        if isinstance(self.model, OnnxModel):
            scores = self.model(input_values, attention_mask)
            return scores.argmax(-1), bool(np.isfinite(scores).all())
        import torch

        device = self.model.device
        with torch.inference_mode():
            logits = self.model(
                torch.from_numpy(input_values).to(device),
                attention_mask=torch.from_numpy(attention_mask).to(device) if len(input_values) > 1 else None,
            ).logits
            ids: NDArray[np.int64] = logits.argmax(-1).cpu().numpy()
            return ids, bool(logits.isfinite().all())


def _symbols(tokenizer: Wav2Vec2CTCTokenizer, count: int) -> list[str | None]:
    """What each of the head's `count` tokens reads as: " " for the word delimiter, None for marks and padding."""
    vocabulary = tokenizer.get_vocab()
    silent = {tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token}
    symbols: list[str | None] = [None] * count
    for token, index in vocabulary.items():
        if index >= count:
            continue
        if token == tokenizer.word_delimiter_token:
            symbols[index] = " "
        elif token not in silent:
            symbols[index] = token.lower() if tokenizer.do_lower_case else token
    return symbols


def load_model(
    name: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    quantization: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    target_lang: str | None = None,
    **source: Any,
) -> Transcriber:
    """A CTC model with its processor.

    name: a folder, a Hub repository, or the checkpoint that ships with the package (None or "tiny-en").
    device: where it runs; the fastest at hand by default. dtype: of the weights, float32 by default.
    quantization: "int8" for the fastest on a CPU, which it then runs on.
    engine: "torch", or "onnx" for the graph that `wavconformer export` wrote; by default what a folder here holds.
    threads: of the CPU; all cores by default. PyTorch's are those of the whole process.
    target_lang: the language, where the model has adapters for several.
    source: revision, cache_dir, token and the like, as in `from_pretrained`.

    Raises CheckpointError where files are missing or don't fit together.
    """
    from wavconformer.processing import Wav2Vec2Processor

    place = DEFAULT_MODEL if name is None else name
    processor = Wav2Vec2Processor.from_pretrained(place, **_language(place, target_lang, source), **source)
    if _is_onnx(engine, Source.take(place, dict(source))):
        if quantization is not None or target_lang is not None or str(device or "cpu") != "cpu" or dtype is not None:
            raise ValueError(
                "The engine 'onnx' runs a graph as it was written, on the CPU: leave device, dtype and target_lang "
                "out, and give quantization to `wavconformer export`."
            )
        graph = OnnxModel.from_pretrained(place, threads=threads, **source)
        if graph.architecture != "Wav2Vec2ConformerForCTC":
            raise CheckpointError(f"'{place}' is a graph of a {graph.architecture}: it can't transcribe.")
        return Transcriber(graph, processor, str(place))
    from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC
    from wavconformer.checkpoint.pretrained import default_device

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    model_arguments: dict[str, Any] = {} if target_lang is None else {"target_lang": target_lang}
    model, info = Wav2Vec2ConformerForCTC.from_pretrained(
        place,
        dtype=dtype,
        device=device or ("cpu" if quantization else default_device()),
        quantization=quantization,
        output_loading_info=True,
        **model_arguments,
        **source,
    )
    require_head(place, info)
    return Transcriber(model, processor, str(place))


def _is_onnx(engine: str | None, source: Source) -> bool:
    if engine not in (None, "torch", "onnx"):
        raise ValueError(f"engine is {engine!r}, but must be 'torch' or 'onnx'.")
    if engine is None and source.folder is not None:
        has_weights = any(any(source.folder.glob(names)) for names in ("*.safetensors*", "pytorch_model*"))
        return source.find(GRAPH) is not None and not has_weights
    return engine == "onnx"


def require_head(name: str | os.PathLike[str], info: dict[str, Any]) -> None:
    """Raises CheckpointError where, by its loading info, a checkpoint holds no CTC head."""
    if any(key.startswith("lm_head") for key in info["missing_keys"]):
        raise CheckpointError(f"'{name}' holds no CTC head (lm_head): it can't transcribe before it is fine-tuned.")


def _language(name: str | os.PathLike[str], target_lang: str | None, source: dict[str, Any]) -> dict[str, str]:
    """The tokenizer's argument for a language: none where one vocabulary serves all."""
    if target_lang is None:
        return {}
    vocabulary = read_json(Source.take(name, dict(source)).require("vocab.json"))
    return {"target_lang": target_lang} if is_nested(vocabulary) else {}


@lru_cache(maxsize=1)
def _loaded(name: str | None, device: str | None) -> Transcriber:
    return load_model(name, device=device)


def transcribe(
    source: AudioSource,
    *,
    model: Transcriber | str | os.PathLike[str] | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
) -> Transcript:
    """Transcribes one recording; of many, load the model once with `load_model` and call it.

    source: path, bytes, file object, or a mono array with its `sampling_rate`.
    model: what `load_model` gave, or a name for it; the checkpoint that ships with the package by default.

    The model named last is kept for the next call. Raises AudioError and CheckpointError.
    """
    if not isinstance(model, Transcriber):
        model = _loaded(None if model is None else os.fspath(model), None if device is None else str(device))
    return model(source, sampling_rate=sampling_rate)


def describe(source: AudioSource) -> str:
    """How messages name a source."""
    if isinstance(source, (str, os.PathLike)):
        return f"'{os.fspath(source)}'"
    return "The given audio"


__all__ = ["SAMPLE_RATE", "Transcriber", "Transcript", "describe", "load_model", "transcribe"]
