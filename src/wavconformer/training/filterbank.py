"""A first convolution that begins as a filterbank, so that a run from scratch needn't discover frequencies first."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from wavconformer.audio import SAMPLE_RATE
from wavconformer.errors import ConfigError
from wavconformer.model.base import SpeechModel

PHASES = 4
LOWEST, HIGHEST = 60.0, 7_600.0  # Hz
# Shorter than two periods of the speech that matters, a filter tells loud from soft but not high from low.
LEAST_KERNEL = 64


def filterbank(channels: int, kernel: int) -> Tensor:
    """Band-pass filters (channels, kernel) of unit power for sound at 16 kHz.

    Centre frequencies are equally apart on the mel scale, 2595 · log10(1 + f / 700); each has four filters, a quarter
    of a period apart from one to the next, so that what passes them and an activation sums to an envelope. A filter is
    a wave within a Hann window, so long that its band reaches to the neighbours' centres, but at most the kernel.
    """
    bands = channels // PHASES
    low, high = (2595 * math.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    mel = torch.linspace(low, high, bands, dtype=torch.float64)[:, None, None]
    frequency = 700 * (10 ** (mel / 2595) - 1)
    apart = (700 + frequency) * math.log(10) / 2595 * (high - low) / max(bands - 1, 1)
    width = (SAMPLE_RATE / apart).clamp(max=kernel)  # the window's power is halved about 0.7 / width from its centre
    time = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2
    phase = torch.arange(PHASES, dtype=torch.float64)[:, None] * (2 * math.pi / PHASES)
    window = torch.where(time.abs() < width / 2, torch.cos(math.pi * time / width) ** 2, 0.0)
    filters = window * torch.cos(2 * math.pi * frequency * time / SAMPLE_RATE + phase)
    filters = filters - filters.mean(-1, keepdim=True)  # deaf to a constant offset
    scaled: Tensor = filters / filters.norm(dim=-1, keepdim=True)
    return scaled.flatten(0, 1).float()


@torch.no_grad()
def set_filterbank(model: SpeechModel) -> None:
    """Makes the first convolution's kernels a filterbank, louder towards high frequencies, where speech is softer.

    Raises ConfigError where its kernel is too short or its channels are no multiple of four.
    """
    backbone: Any = model.base_model
    conv = backbone.feature_extractor.conv_layers[0].conv
    channels, _, kernel = conv.weight.shape
    if kernel < LEAST_KERNEL or channels % PHASES:
        raise ConfigError(
            f"model.filterbank needs a first convolution of at least {LEAST_KERNEL} samples and a multiple of {PHASES} "
            f"channels, but model.config has conv_kernel[0]={kernel} and conv_dim[0]={channels}."
        )
    filters = filterbank(channels, kernel)
    emphasis = torch.linspace(0, 1, channels // PHASES).repeat_interleave(PHASES)[:, None]
    conv.weight.copy_((filters * 10**emphasis)[:, None])
    if conv.bias is not None:
        conv.bias.zero_()
