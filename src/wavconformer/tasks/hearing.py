"""What a model hears of a text's labels in a recording of any length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wavconformer.audio import AudioSource
from wavconformer.audio.windows import Cutting
from wavconformer.decoding.evidence import Evidence
from wavconformer.tasks.recording import LongRecording, open_recording
from wavconformer.tasks.scores import too_short
from wavconformer.tasks.transcribe import Transcriber

# What a letter costs in a pause between windows, which the model doesn't get to hear.
_UNHEARD = 10.0
# A frame is quiet if all within so many seconds are so many decibels below the loud ones of its window.
_AROUND = 0.04
_QUIET_DECIBELS = 40.0


def hear(
    transcriber: Transcriber,
    source: AudioSource,
    labels: Sequence[int],
    delimiter: int | None = None,
    *,
    sampling_rate: int | None = None,
    cutting: Cutting | None = None,
    batch_seconds: float | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Evidence:
    """Runs the model over a recording, window by window. Of each frame the costs of `labels` alone are kept.

    labels: ids of the vocabulary, the blank first. delimiter: that of them which parts words, if there is one: like the
        blank it is what pauses between windows are.
    cutting, batch_seconds: as `Transcriber.stream` has them, but short recordings are cut at their pauses, too.
    progress: is told the seconds that are done.

    Raises AudioError, CheckpointError and ValueError as `Transcriber` does.
    """
    config = transcriber.model.config
    rate, hop = transcriber.sampling_rate, config.hop_length
    around = round(_AROUND * rate / hop)
    silent = np.array([0.0 if label in (labels[0], delimiter) else _UNHEARD for label in labels], np.float32)
    costs: list[NDArray[np.float32]] = []
    quiet: list[NDArray[np.bool_]] = []
    done = 0

    def pause(frames: int) -> None:
        costs.append(np.tile(silent, (frames, 1)))
        quiet.append(np.ones(frames, bool))

    recording = open_recording(source, rate, sampling_rate, longest=0.0)
    assert isinstance(recording, LongRecording)  # for none is so short
    for window, log_probs in transcriber.windows(recording, cutting or Cutting(), batch_seconds):
        pause(window.first_frame - done)
        costs.append(log_probs.max(-1, keepdims=True) - log_probs[:, list(labels)])
        frames = window.kept.start + len(log_probs)
        quiet.append(_is_quiet(window.samples, frames, hop, around)[window.kept.start :])
        done = window.first_frame + len(log_probs)
        progress(done * hop / rate)
    if recording.failure is not None:
        raise recording.failure
    if recording.heard < config.receptive_field:
        raise too_short(recording.name, recording.heard / rate, config.receptive_field / rate)
    pause(max(0, recording.heard // hop - done))
    duration = recording.heard / rate
    progress(duration)
    return Evidence(tuple(labels), np.concatenate(costs), np.concatenate(quiet), hop / rate, duration)


def _is_quiet(samples: NDArray[np.float32], frames: int, hop: int, around: int) -> NDArray[np.bool_]:
    """(T,) whether a frame and those around it are far below the loud ones."""
    padded = np.zeros(frames * hop, np.float32)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    energy = np.square(padded.reshape(frames, hop)).mean(1)
    is_loud = energy > np.quantile(energy, 0.95) * 10 ** (-_QUIET_DECIBELS / 10)
    near = np.convolve(is_loud, np.ones(2 * around + 1), "full")[around : around + frames] > 0.5
    quiet: NDArray[np.bool_] = ~near
    return quiet
