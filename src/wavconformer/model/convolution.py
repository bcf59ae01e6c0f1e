"""A strided convolution over time, channels last, as one matrix product over windows of frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def strided_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolves (B, T, C) with `weight` (O, C, k), the layout of the checkpoints, to (B, T', O); no padding."""
    kernel = weight.shape[2]
    return F.linear(windows(x, kernel, stride), weight.transpose(1, 2).flatten(1), bias)


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The frames of each window side by side: (B, T, C) → (B, T', kernel · C).

    Without autograd a view. With it a copy: the backward of overlapping views is slow, that of slices isn't.
    """
    channels = x.shape[2]
    if x.requires_grad and torch.is_grad_enabled():
        count = (x.shape[1] - kernel) // stride + 1
        last = (count - 1) * stride + 1
        return torch.cat([x[:, offset : offset + last : stride] for offset in range(kernel)], dim=-1)
    return x.flatten(1).unfold(1, kernel * channels, stride * channels)
