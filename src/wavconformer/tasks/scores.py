"""Waveforms through a model, with errors that name the recording and say what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import AudioError, CheckpointError
from wavconformer.processing import Wav2Vec2FeatureExtractor
from wavconformer.tasks.recording import Recording

if TYPE_CHECKING:
    from wavconformer.checkpoint.pretrained import PreTrained

Scores = NDArray[np.float32]
Run = Callable[[NDArray[np.float32], NDArray[np.integer]], tuple[Scores, bool]]
"""input_values and attention_mask (B, S) → the scores (B, …), and whether all of them are numbers."""


def scores(
    run: Run,
    extractor: Wav2Vec2FeatureExtractor,
    waveforms: Sequence[NDArray[np.float32]],
    *,
    model: str,
    names: str,
    multiple: int | None = None,
) -> list[Scores]:
    """The scores of waveforms (S,), as one padded batch.

    model, names: what messages call the model and the recordings. multiple: the length of the batch is a multiple of
    so many samples.

    Raises AudioError where a recording can't be used or needs more memory than there is, CheckpointError where the
    scores are not numbers.
    """
    try:
        inputs = extractor(
            list(waveforms),
            sampling_rate=extractor.sampling_rate,
            padding=True,
            pad_to_multiple_of=multiple,
            return_attention_mask=True,
            return_tensors="np",
        )
        values, finite = run(inputs["input_values"], inputs["attention_mask"])
    except AudioError as error:
        raise AudioError(f"{names}: {error}") from error
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        seconds = max(map(len, waveforms)) / extractor.sampling_rate
        raise AudioError(
            f"{names}: {seconds:.0f} s is too long to go through the model at once in this machine's memory: take "
            "shorter windows (window_seconds)."
        ) from error
    if not finite:
        raise no_numbers(model)
    return list(values)


def outputs(model: PreTrained, values: NDArray[np.float32], mask: NDArray[np.integer]) -> Any:
    """What a model gives for input_values and attention_mask (B, S); it gets no mask where nothing is padded."""
    import torch

    device = model.device
    with torch.inference_mode():
        return model(
            torch.from_numpy(values).to(device),
            attention_mask=None if bool(mask.all()) else torch.from_numpy(mask).to(device),
        )


def no_numbers(model: str, what: str = "scores") -> CheckpointError:
    """The error of a model whose scores are no numbers."""
    return CheckpointError(
        f"{model} gives NaN or infinite {what}: its weights are broken, or too large for their type. "
        "`wavconformer check` tells more."
    )


def refuse_short(recordings: Sequence[Recording], least: int, rate: int) -> None:
    """Raises AudioError where one of them has fewer than `least` samples."""
    for recording in recordings:
        if len(recording.waveform) < least:
            raise too_short(recording.name, recording.duration, least / rate)


def too_short(name: str, seconds: float, least: float) -> AudioError:
    """The error of a recording that lasts so many seconds, where the model needs at least so many."""
    return AudioError(
        f"{name} is {seconds * 1000:.1f} ms long, but the model needs at least {least * 1000:.0f} ms of audio."
    )
