"""Is this checkpoint whole, and does it give here what it gives in `transformers`? Proof for any checkpoint."""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavconformer.audio import AudioSource, load_audio
from wavconformer.auto import feature_extractor, model_class
from wavconformer.checkpoint.models import MAIN_OUTPUT, Wav2Vec2ConformerForCTC
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.decoding.beam import BeamDecoder
from wavconformer.decoding.processor_with_lm import language_model_folder
from wavconformer.errors import WavConformerError
from wavconformer.files import Source, first_line, read_json
from wavconformer.model.quantization import is_int8
from wavconformer.processing import Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wavconformer.tasks.search import described
from wavconformer.tasks.transcribe import Transcriber, require_head

# Largest difference that counts as equal, relative to the largest value of the output.
TOLERANCE = 1e-4
INT8_TOLERANCE = 0.1  # a value may tip to the next 8-bit step

# Fields without which a configuration may not be that of its weights.
_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "feat_extract_norm",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "position_embeddings_type",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. passed: None where it couldn't be."""

    name: str
    passed: bool | None
    detail: str


def check(
    name: str | os.PathLike[str], audio: AudioSource | None = None, text: str | None = None, **source: Any
) -> Iterator[Finding]:
    """Checks a checkpoint, one finding after another.

    name: folder, Hub repository, or a checkpoint that ships with the package.
    audio: a recording to run, in place of noise. text: what is said in it.

    Raises nothing that the checkpoint is to blame for: that is a finding, and the last one where no other can follow.
    """
    where = Source.take(name, dict(source))
    try:
        values = read_json(where.require("config.json"))
        config = Wav2Vec2ConformerConfig.from_source(where)
        cls = model_class(config, where)
    except WavConformerError as error:
        yield Finding("configuration", False, str(error))
        return
    lacking = [field for field in _SHAPE if field not in values]
    complete = f"defaults stand in for {', '.join(lacking)}" if lacking else "complete"
    yield Finding("configuration", True, f"{complete}, for {cls.__name__}")
    try:
        model, info = cls.from_pretrained(name, output_loading_info=True, **source)
        extractor = feature_extractor(where, **source)
    except WavConformerError as error:
        yield Finding("weights", False, str(error))
        return
    missing = [key for key in info["missing_keys"] if "inv_freq" not in key and "num_batches" not in key]
    odd = [f"missing {', '.join(missing)}"] if missing else []
    odd += [f"not used {', '.join(info['unexpected_keys'])}"] if info["unexpected_keys"] else []
    yield Finding("weights", not odd, "; ".join(odd) or f"all {len(model.state_dict())} tensors in place")
    finite = all(bool(p.isfinite().all()) for p in model.parameters())
    yield Finding("finite weights", finite, "no NaN, no infinity" if finite else "NaN or infinity among the weights")

    waveform = noise() if audio is None else load_audio(audio, sampling_rate=extractor.sampling_rate)
    yield _attempt("frame rate", lambda: _frame_rate(model, extractor, waveform))
    yield _attempt("padding", lambda: _padding(model, extractor, waveform))
    yield _attempt("transformers", lambda: _rival(where, model, extractor, waveform, source))
    if isinstance(model, Wav2Vec2ConformerForCTC):
        ctc = model

        def transcriber() -> Transcriber:
            require_head(name, info)
            return Transcriber(ctc, Wav2Vec2Processor.from_pretrained(name, **source), str(name))

        yield _attempt("vocabulary", lambda: _vocabulary(transcriber()))
        if language_model_folder(where) is not None:
            yield _attempt("language model", lambda: _language_model(transcriber(), where))
        if audio is not None:
            yield _attempt("text", lambda: _text(transcriber(), audio, text))


def _attempt(name: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; what it can't do is a finding too."""
    try:
        return look()
    except (WavConformerError, ValueError, TypeError, OSError, RuntimeError) as error:
        return Finding(name, False, first_line(error))


def noise(seconds: float = 2.0) -> NDArray[np.float32]:
    """Noise whose loudness swells and fades, so that its frames differ."""
    random = np.random.default_rng(0)
    swell = 0.05 + np.abs(np.sin(np.linspace(0, 6 * np.pi, int(seconds * 16_000))))
    return (random.standard_normal(len(swell)) * swell * 0.1).astype(np.float32)


def _inputs(extractor: Wav2Vec2FeatureExtractor, *waveforms: NDArray[np.float32]) -> dict[str, Tensor]:
    return dict(
        extractor(
            list(waveforms),
            sampling_rate=extractor.sampling_rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
    )


def _output(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        output = model(**inputs)
    tensor: Tensor = output[MAIN_OUTPUT[type(model).__name__]]
    return tensor


def _frame_rate(model: PreTrained, extractor: Wav2Vec2FeatureExtractor, waveform: NDArray[np.float32]) -> Finding:
    with torch.inference_mode():
        frames = model.base_model(**_inputs(extractor, waveform)).last_hidden_state.shape[1]
    expected = int(model.feature_lengths(len(waveform)))
    rate = model.config.frame_rate(extractor.sampling_rate)
    detail = f"{frames} frames of {len(waveform)} samples, {rate:.4g} a second"
    return Finding("frame rate", frames == expected, detail)


def _padding(model: PreTrained, extractor: Wav2Vec2FeatureExtractor, waveform: NDArray[np.float32]) -> Finding:
    alone = _output(model, _inputs(extractor, waveform))[0]
    longer = np.concatenate([waveform, noise(1.0)])
    batched = _output(model, _inputs(extractor, waveform, longer))[0]
    if alone.ndim == 2:
        batched = batched[: len(alone)]
    if not alone.isfinite().all():
        return Finding("padding", False, "the output holds NaN or infinity")
    difference = _relative(alone, batched)
    detail = f"alone and in a padded batch differ by {difference:.1e} of the largest value"
    return Finding("padding", difference <= (INT8_TOLERANCE if is_int8(model) else TOLERANCE), detail)


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


def _rival(
    where: Source,
    model: PreTrained,
    extractor: Wav2Vec2FeatureExtractor,
    waveform: NDArray[np.float32],
    source: dict[str, Any],
) -> Finding:
    if is_int8(model):
        return Finding("transformers", None, "int8: it doesn't read these weights, so there is nothing to compare with")
    if importlib.util.find_spec("transformers") is None:
        return Finding("transformers", None, "not installed: `pip install transformers` to compare side by side")
    if model.config.adapter_attn_dim is not None:
        return Finding("transformers", None, "its Conformer has no language adapters: nothing to compare with")
    transformers = importlib.import_module("transformers")  # never imported but to be compared with
    theirs = getattr(transformers, type(model).__name__)
    theirs = theirs.from_pretrained(where.folder or where.name, dtype=torch.float32, **source).eval()
    inputs = {"input_values": _inputs(extractor, waveform)["input_values"]}
    difference = _relative(_output(theirs, inputs), _output(model, inputs))
    detail = f"{transformers.__version__} and wavconformer differ by {difference:.1e} of the largest value"
    return Finding("transformers", difference <= TOLERANCE, detail)


def _language_model(transcriber: Transcriber, source: Source) -> Finding:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        transcriber.use_own_language_model(source)
    passed = isinstance(transcriber.decoder, BeamDecoder) or None  # None: for want of a package
    details = [described(transcriber.decoder)] if passed else []
    return Finding("language model", passed, ". ".join([*details, *(str(one.message) for one in told)]))


def _vocabulary(transcriber: Transcriber) -> Finding:
    tokens = max(transcriber.processor.tokenizer.get_vocab().values()) + 1
    head = transcriber.model.config.vocab_size
    equal = "as many as the head has" if tokens == head else f"but the head has {head}"
    return Finding("vocabulary", tokens == head, f"{tokens} tokens, {equal}")


def _text(transcriber: Transcriber, audio: AudioSource, text: str | None) -> Finding:
    heard = transcriber(audio).text
    if text is None:
        return Finding("text", None, f"{heard!r} (pass --text to compare)")
    equal = heard.lower().split() == text.lower().split()
    return Finding("text", equal, f"{heard!r}" if equal else f"{heard!r}, not {text!r}")
