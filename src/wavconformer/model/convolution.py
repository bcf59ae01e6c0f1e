"""Convolutions over time, channels last."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def strided_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolves (B, T, C) with `weight` (O, C, k), the layout of the checkpoints, to (B, T', O); no padding.

    With autograd, and in a graph, as one product over windows of frames. Without it as a sum of products, none of
    which needs its input copied.
    """
    taps = weight.transpose(1, 2)  # (O, k, C)
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return F.linear(_windows(x, weight.shape[2], stride), taps.flatten(1), bias)
    return (
        torch.stack([_products(row, taps, bias, stride) for row in x])
        if len(x) > 1
        else (_products(x[0], taps, bias, stride)[None])
    )


def _windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The frames of each window side by side: (B, T, C) → (B, T', kernel · C).

    Slices put together, as the backward of overlapping views is slow.
    """
    last = (x.shape[1] - kernel) // stride * stride + 1
    return torch.cat([x[:, offset : offset + last : stride] for offset in range(kernel)], dim=-1)


def _products(x: Tensor, taps: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """(T, C) with (O, k, C) → (T', O): the sum over groups of at most `stride` taps.

    The frames that one such group sees in successive windows don't overlap, so they are rows of a matrix as they lie.
    """
    kernel, channels = taps.shape[1:]
    count = (x.shape[0] - kernel) // stride + 1
    flat = x.reshape(-1)
    if channels == 1:  # a waveform: windows are cheaper to copy than products to add up
        return F.linear(flat.unfold(0, kernel, stride), taps.flatten(1), bias)
    output: Tensor | None = None
    for first in range(0, kernel, stride):
        group = taps[:, first : first + stride].flatten(1).t()  # (taps of the group · C, O)
        rows = flat[first * channels :].unfold(0, group.shape[0], stride * channels)[:count]
        if output is not None:
            output.addmm_(rows, group)
        else:
            output = rows @ group if bias is None else torch.addmm(bias, rows, group)
    assert output is not None
    return output


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolves each channel of (B, T, D) with its own kernel of `weight` (D, 1, k), k odd; the length stays.

    As an image one pixel high whose channels lie last: that is how the frames lie in memory, and PyTorch's kernel for
    this layout is many times faster than the one for sequences.
    """
    image = x.transpose(1, 2)[:, :, None].contiguous(memory_format=torch.channels_last)
    kernel = weight[:, :, None].contiguous(memory_format=torch.channels_last)
    output = F.conv2d(image, kernel, bias, padding=(0, weight.shape[2] // 2), groups=weight.shape[0])
    return output[:, :, 0].transpose(1, 2)
