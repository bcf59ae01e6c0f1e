"""Speech to text: a recording in, its words out."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import SAMPLE_RATE, AudioSource, load_audio
from wavconformer.decoding.greedy import greedy
from wavconformer.decoding.words import Word, words
from wavconformer.errors import AudioError, CheckpointError
from wavconformer.files import DEFAULT_MODEL, Source, read_json
from wavconformer.processing.vocabulary import is_nested

if TYPE_CHECKING:
    import torch

    from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC
    from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2Processor


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


class Transcriber:
    """A CTC model with its processor, ready to transcribe."""

    def __init__(self, model: Wav2Vec2ConformerForCTC, processor: Wav2Vec2Processor, name: str = "the model") -> None:
        """Raises CheckpointError where the vocabulary and the model's head don't belong together."""
        self.model = model
        self.processor = processor
        self.name = name
        head = model.lm_head.out_features
        if processor.tokenizer.pad_token_id != model.blank:
            raise CheckpointError(
                f"{name}: the tokenizer's padding token has the id {processor.tokenizer.pad_token_id}, but the model's "
                f"blank is {model.blank} (pad_token_id in config.json). They must be the same."
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
        if isinstance(source, np.ndarray) != (sampling_rate is not None):
            raise ValueError("sampling_rate goes with an array of samples, and only with one: a file says its own.")
        waveform = load_audio(source, sampling_rate=self.sampling_rate, source_rate=sampling_rate)
        duration = len(waveform) / self.sampling_rate
        least = self.model.config.receptive_field
        if len(waveform) < least:
            raise AudioError(
                f"{describe(source)} is {duration * 1000:.1f} ms long, but the model needs at least "
                f"{least / self.sampling_rate * 1000:.0f} ms of audio."
            )
        if not np.ptp(waveform):
            return Transcript("", (), duration)
        try:
            frame_ids = self._frame_ids(waveform)
        except AudioError as error:
            raise AudioError(f"{describe(source)}: {error}") from error
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise AudioError(
                f"{describe(source)} is {duration:.0f} s long, too long to transcribe at once in this machine's "
                "memory: cut it into parts."
            ) from error
        tokens = greedy(frame_ids, self.model.blank)
        found = words(tokens, self._symbols, self.model.config.hop_length / self.sampling_rate)
        return Transcript(" ".join(word.text for word in found), found, duration)

    def _frame_ids(self, waveform: NDArray[np.float32]) -> NDArray[np.int64]:
        """The likeliest token of each frame (T,)."""
        import torch

        inputs = self.processor.feature_extractor(
            waveform, sampling_rate=self.sampling_rate, return_tensors="pt"
        ).input_values
        with torch.inference_mode():
            logits = self.model(inputs.to(self.model.device)).logits[0]
        if not logits.isfinite().all():
            raise CheckpointError(
                f"{self.name} gives NaN or infinite scores: its weights are broken, or too large for "
                f"{str(self.model.dtype).removeprefix('torch.')}. `wavconformer check` tells more."
            )
        ids: NDArray[np.int64] = logits.argmax(-1).cpu().numpy()
        return ids


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
    target_lang: str | None = None,
    **source: Any,
) -> Transcriber:
    """A CTC model with its processor.

    name: a folder, a Hub repository, or the checkpoint that ships with the package (None or "tiny-en").
    device: where it runs; the fastest at hand by default. dtype: of the weights, float32 by default.
    quantization: "int8" for the fastest on a CPU, which it then runs on.
    target_lang: the language, where the model has adapters for several.
    source: revision, cache_dir, token and the like, as in `from_pretrained`.

    Raises CheckpointError where files are missing or don't fit together.
    """
    from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC
    from wavconformer.checkpoint.pretrained import default_device
    from wavconformer.processing import Wav2Vec2Processor

    place = DEFAULT_MODEL if name is None else name
    processor = Wav2Vec2Processor.from_pretrained(place, **_language(place, target_lang, source), **source)
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
