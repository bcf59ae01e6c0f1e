"""How long things are: samples to frames, masks to lengths, and what is too short."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.reference import is_traced

Length = TypeVar("Length", int, Tensor)

ADAPTER_PADDING = 1  # of every adapter convolution, on both sides


def conv_length(length: Length, kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> Length:
    """Frames that a convolution makes of `length` frames; zero or less where the kernel doesn't fit."""
    return (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def encoder_length(samples: Length, config: Wav2Vec2ConformerConfig) -> Length:
    """Frames that the feature encoder makes of so many samples."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = conv_length(samples, kernel, stride)
    return samples


def adapter_length(frames: Length, config: Wav2Vec2ConformerConfig) -> Length:
    """Frames that the convolutional adapter leaves of so many frames."""
    for _ in range(config.num_adapter_layers):
        frames = conv_length(frames, config.adapter_kernel_size, config.adapter_stride, ADAPTER_PADDING)
    return frames


def tdnn_length(frames: Length, config: Wav2Vec2ConformerConfig) -> Length:
    """Frames that the x-vector's TDNN leaves of so many frames, dilation counted."""
    for kernel, dilation in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True):
        frames = conv_length(frames, kernel, 1, dilation=dilation)
    return frames


def least_samples(config: Wav2Vec2ConformerConfig, frames: int = 1) -> int:
    """The fewest samples of which the feature encoder makes `frames` frames."""
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def least_adapter_frames(config: Wav2Vec2ConformerConfig, frames: int = 1) -> int:
    """The fewest encoder frames of which the convolutional adapter leaves `frames`."""
    for _ in range(config.num_adapter_layers):
        frames = max(1, (frames - 1) * config.adapter_stride + config.adapter_kernel_size - 2 * ADAPTER_PADDING)
    return frames


def least_tdnn_frames(config: Wav2Vec2ConformerConfig) -> int:
    """The fewest frames of which the TDNN leaves two, so that a standard deviation over them is finite."""
    context = (d * (k - 1) for k, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
    return 2 + sum(context)


def sample_lengths(input_values: Tensor, attention_mask: Tensor | None, least: int) -> Tensor | None:
    """Real samples of each utterance (B,), or None where nothing is padded.

    The values are checked here, once, which costs an accelerator one synchronisation; while a graph is being
    compiled or exported they can't be, and the lengths are always given when a mask is.

    Raises ValueError where the mask's shape isn't that of `input_values` (B, S), where a row isn't ones followed
    by zeros, and where an utterance has fewer than `least` samples.
    """
    if attention_mask is None:
        _refuse_short(enumerate([input_values.shape[1]]), least, named=False)
        return None
    if attention_mask.shape != input_values.shape:
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, input_values "
            f"{tuple(input_values.shape)}: both must be (batch, samples). Pass the mask that the feature extractor "
            "returns beside input_values."
        )
    real = attention_mask.to(device=input_values.device, dtype=torch.bool)
    lengths = real.sum(-1)
    if is_traced():
        return lengths
    samples = real.shape[1]
    is_run = (real == (torch.arange(samples, device=real.device) < lengths[:, None])).all(-1)
    rows = torch.stack([lengths, is_run.long()]).tolist()
    for row, whole in enumerate(rows[1]):
        if not whole:
            raise ValueError(
                f"Row {row} of attention_mask is not ones followed by zeros: holes and left padding can't be "
                "told from sound. Pad on the right (padding_side='right')."
            )
    _refuse_short(enumerate(rows[0]), least, named=True)
    return lengths if min(rows[0]) < samples else None


def _refuse_short(lengths: Iterable[tuple[int, int]], least: int, *, named: bool) -> None:
    for row, length in lengths:
        if length < least:
            raise ValueError(
                f"{f'Utterance {row} of the batch' if named else 'The audio'} has {length} samples, but this model "
                f"needs at least {least} ({least / 16:.4g} ms at 16 kHz). Leave it out, or pad it with silence."
            )


def length_mask(lengths: Tensor, frames: int) -> Tensor:
    """(B, T) boolean: True on the first `lengths` (B,) of `frames` frames."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real frames: (B, T, D), (B, T) → (B, D)."""
    if mask is None:
        return x.mean(1)
    real = mask[..., None].float()  # half precision would round the count of frames
    return ((x * real).sum(1) / real.sum(1)).to(x.dtype)


def masked_std(x: Tensor, mask: Tensor | None) -> Tensor:
    """Standard deviation (of a sample, n - 1) over the real frames: (B, T, D), (B, T) → (B, D)."""
    if mask is None:
        return x.std(1)
    values, real = x.float(), mask[..., None].float()
    centred = (values - masked_mean(values, mask)[:, None]) * real
    variance = centred.square().sum(1) / (real.sum(1) - 1)
    constant = variance == 0  # the root's slope is infinite there, and a dead feature would make gradients NaN
    return variance.masked_fill(constant, 1.0).sqrt().masked_fill(constant, 0.0).to(x.dtype)
