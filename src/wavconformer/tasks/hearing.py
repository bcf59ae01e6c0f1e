"""What a model hears of a text's labels in a recording, window by window, for recordings of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource, stream_audio
from wavconformer.checkpoint.onnx_graph import OnnxModel
from wavconformer.decoding.evidence import Evidence
from wavconformer.errors import AudioError, CheckpointError
from wavconformer.tasks.recording import describe
from wavconformer.tasks.transcribe import Transcriber

WINDOW_SECONDS = 20.0
CONTEXT_SECONDS = 2.0
# What another label than the blank costs where a window has no sound at all; the model doesn't get to hear that.
_SILENT = 20.0
# A frame is quiet if all within so many seconds are so many decibels below the loud ones of its window.
_AROUND = 0.1
_QUIET_DECIBELS = 40.0


def hear(
    transcriber: Transcriber,
    source: AudioSource,
    labels: Sequence[int],
    *,
    sampling_rate: int | None = None,
    window_seconds: float = WINDOW_SECONDS,
    context_seconds: float = CONTEXT_SECONDS,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Evidence:
    """Runs the model over a recording of any length. Of each frame the costs of `labels` alone are kept.

    labels: ids of the vocabulary, the blank first.
    window_seconds: of audio that are computed at once. context_seconds: that the model hears besides on both sides of a
        window; the context's frames are dropped, and the windows' joined.
    progress: is told the seconds that are done.

    Raises AudioError, CheckpointError and ValueError as `Transcriber` does.
    """
    if not window_seconds > 0 or not context_seconds >= 0:
        raise ValueError(
            f"window_seconds is {window_seconds} and context_seconds {context_seconds}: the one must be positive, the "
            "other not negative."
        )
    config = transcriber.model.config
    rate, hop, field = transcriber.sampling_rate, config.hop_length, config.receptive_field
    core = max(1, round(window_seconds * rate / hop))
    context = max(round(context_seconds * rate / hop), -(-field // hop))
    costs: list[NDArray[np.float32]] = []
    quiet: list[NDArray[np.bool_]] = []
    heard = 0
    blocks = stream_audio(source, sampling_rate=rate, source_rate=sampling_rate)
    for window in _windows(blocks, core * hop, context * hop):
        if len(window.samples) < field:
            raise AudioError(
                f"{describe(source)} is {len(window.samples) / rate * 1000:.1f} ms long, but the model needs at least "
                f"{field / rate * 1000:.0f} ms of audio."
            )
        found = _computed(transcriber, window.samples, labels)
        kept = slice(window.before // hop, None if window.is_last else (window.before + window.length) // hop)
        costs.append(found[kept])
        quiet.append(_is_quiet(window.samples, len(found), hop, round(_AROUND * rate / hop))[kept])
        heard += window.length
        progress(heard / rate)
    return Evidence(tuple(labels), np.concatenate(costs), np.concatenate(quiet), hop / rate, heard / rate)


@dataclass(frozen=True)
class _Window:
    """Samples: some of context, the window's own, and again some of context."""

    samples: NDArray[np.float32]
    before: int
    length: int
    is_last: bool


def _windows(blocks: Iterator[NDArray[np.float32]], core: int, context: int) -> Iterator[_Window]:
    """Windows of `core` samples, one behind the other, with up to `context` on both sides; the last is what is left."""
    held = np.zeros(0, np.float32)
    before = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > before + core + context:
            yield _Window(held[: before + core + context], before, core, False)
            start = max(0, before + core - context)
            held, before = held[start:], before + core - start
    yield _Window(held, before, len(held) - before, True)


def _computed(transcriber: Transcriber, samples: NDArray[np.float32], labels: Sequence[int]) -> NDArray[np.float32]:
    """The costs (T, L) of a window's frames."""
    inputs = transcriber.processor.feature_extractor(
        [samples], sampling_rate=transcriber.sampling_rate, return_attention_mask=True, return_tensors="np"
    )
    model = transcriber.model
    if isinstance(model, OnnxModel):
        logits = model(inputs.input_values, inputs.attention_mask)[0]
        scores = np.concatenate([logits.max(-1, keepdims=True), logits[:, list(labels)]], -1)
    else:
        import torch

        with torch.inference_mode():
            output = model(torch.from_numpy(inputs.input_values).to(model.device)).logits[0].float()
            best = output.amax(-1, keepdim=True)
            scores = torch.cat([best, output[:, list(labels)]], -1).cpu().numpy()
    if not np.isfinite(scores).all():
        raise CheckpointError(
            f"{transcriber.name} gives NaN or infinite scores: its weights are broken, or too large for their type. "
            "`wavconformer check` tells more."
        )
    if not np.ptp(samples):
        scores[:, :2] = 0.0
        scores[:, 2:] = -_SILENT
    costs: NDArray[np.float32] = scores[:, :1] - scores[:, 1:]
    return costs


def _is_quiet(samples: NDArray[np.float32], frames: int, hop: int, around: int) -> NDArray[np.bool_]:
    """(T,) whether a frame and those around it are far below the loud ones."""
    padded = np.zeros(frames * hop, np.float32)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    energy = np.square(padded.reshape(frames, hop)).mean(1)
    is_loud = energy > np.quantile(energy, 0.95) * 10 ** (-_QUIET_DECIBELS / 10)
    near = np.convolve(is_loud, np.ones(2 * around + 1), "full")[around : around + frames] > 0.5
    quiet: NDArray[np.bool_] = ~near
    return quiet
