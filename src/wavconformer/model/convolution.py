"""Convolutions over time, channels last."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from wavconformer.model import reference
from wavconformer.model.linear import linear

# Products that a depthwise convolution's backward pass sums up at a time: they stay in the cache.
KERNEL_PIECE = 1 << 20


def strided_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolves (B, T, C) with `weight` (O, C, k), the layout of the checkpoints, to (B, T', O); no padding.

    On a CPU as a matrix product over windows of frames, of which none is kept for the backward pass.
    """
    if reference.is_special() or x.device.type != "cpu":
        return reference.strided_convolution(x, weight, bias, stride)
    if torch.is_autocast_enabled("cpu"):
        return F.linear(_copied_windows(x, weight.shape[2], stride), _taps(weight), bias)
    if torch.is_grad_enabled():
        output: Tensor = _StridedConvolution.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]
        return output
    return _convolve(x, weight, bias, stride)


def _taps(weight: Tensor) -> Tensor:
    """(O, C, k) → (O, k · C): in the order in which the frames of a window lie."""
    return weight.transpose(1, 2).flatten(1)


def _copied_windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The frames of each window side by side: (B, T, C) → (B, T', kernel · C)."""
    last = (x.shape[1] - kernel) // stride * stride + 1
    return torch.cat([x[:, offset : offset + last : stride] for offset in range(kernel)], dim=-1)


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The windows of one utterance (T, C), contiguous, as a view (T', kernel · C) whose rows may overlap."""
    channels = x.shape[1]
    return x.flatten().unfold(0, kernel * channels, stride * channels)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    taps, kernel = _taps(weight), weight.shape[2]
    rows = [linear(windows(row.contiguous(), kernel, stride), taps, bias) for row in x]
    return torch.stack(rows) if len(rows) > 1 else rows[0][None]


class _StridedConvolution(torch.autograd.Function):
    """The product over windows with a backward pass that neither keeps nor makes a copy of them.

    PyTorch's own backward of overlapping views is slow, and that of concatenated slices fills and adds as many
    tensors as there are taps. Here a group of `stride` taps is one product: its windows don't overlap.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        taps = _taps(weight)
        of_x = torch.zeros_like(x) if wants_x else None
        of_taps = torch.zeros_like(taps) if wants_weight else None
        for group in _tap_groups(weight.shape, ctx.stride):
            for row, change in enumerate(gradient):
                if of_x is not None:
                    _rows(of_x[row], group, ctx.stride, len(change)).addmm_(change, taps[:, group])
                if of_taps is not None:
                    of_taps[:, group].addmm_(change.t(), _rows(x[row], group, ctx.stride, len(change)))
        of_weight = None
        if of_taps is not None:
            of_weight = of_taps.view(weight.shape[0], weight.shape[2], weight.shape[1]).transpose(1, 2)
        return of_x, of_weight, gradient.sum((0, 1)) if wants_bias else None, None


def _tap_groups(shape: torch.Size, stride: int) -> list[slice]:
    """The columns of (O, k · C) taps in groups of at most `stride` taps."""
    _, channels, kernel = shape
    return [slice(first * channels, min(first + stride, kernel) * channels) for first in range(0, kernel, stride)]


def _rows(x: Tensor, columns: slice, stride: int, count: int) -> Tensor:
    """Those columns of the windows of one utterance (T, C), as a view (count, columns) whose rows don't overlap."""
    flat = x.view(-1)[columns.start :]
    return flat.unfold(0, columns.stop - columns.start, stride * x.shape[1])[:count]


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolves each channel of (B, T, D) with its own kernel of `weight` (D, 1, k), k odd; the length stays.

    As an image one pixel high whose channels lie last: that is how the frames lie in memory, and PyTorch's kernel for
    this layout is many times faster than the one for sequences.
    """
    if reference.is_plain():
        return reference.depthwise_convolution(x, weight, bias)
    if torch.is_grad_enabled() and x.device.type == "cpu" and not reference.is_special():
        if torch.is_autocast_enabled("cpu") and x.dtype is not torch.float64:  # which autocast leaves as it is
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        output: Tensor = _DepthwiseConvolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return output
    return _convolve_channels(x, weight, bias)


def _convolve_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    image = x.transpose(1, 2)[:, :, None].contiguous(memory_format=torch.channels_last)
    kernel = weight[:, :, None].contiguous(memory_format=torch.channels_last)
    output = F.conv2d(image, kernel, bias, padding=(0, weight.shape[2] // 2), groups=weight.shape[0])
    return output[:, :, 0].transpose(1, 2)


class _DepthwiseConvolution(torch.autograd.Function):
    """The same with a backward pass whose kernel gradient takes a fifth of the time of PyTorch's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve_channels(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        of_x = _convolve_channels(gradient, weight.flip(2), None) if wants_x else None
        of_weight = _kernel_gradient(x, gradient, weight.shape[2]).to(weight.dtype) if wants_weight else None
        return of_x, of_weight, gradient.sum((0, 1)) if wants_bias else None


def _kernel_gradient(x: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Σ_t x_{t+j-k//2} g_t of each channel, x and g (B, T, D): (D, 1, k), in single precision at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, gradient = F.pad(x.to(dtype), (0, 0, kernel // 2, kernel // 2)), gradient.to(dtype)
    batch, frames, channels = gradient.shape
    total = x.new_zeros(kernel, channels)
    size = max(1, KERNEL_PIECE // (batch * kernel * channels))
    for start in range(0, frames, size):
        some = gradient[:, start : start + size]
        # (B, k, n, D): each row of x under each tap.
        under = x[:, start : start + some.shape[1] + kernel - 1].unfold(1, some.shape[1], 1).transpose(2, 3)
        total += (under * some[:, None]).sum((0, 2))
    return total.t()[:, None]
