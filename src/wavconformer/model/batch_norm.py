"""Batch normalisation whose statistics count real frames only, those of all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

_recomputing: ContextVar[bool] = ContextVar("recomputing", default=False)


def checkpoint_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for `torch.utils.checkpoint`: during the recomputation no running statistics are updated again."""
    return nullcontext(), _recomputation()


@contextmanager
def _recomputation() -> Iterator[None]:
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


class FrameBatchNorm(nn.Module):
    """Batch normalisation over (B, T, D), channels last.

    In training the mean and variance are over the frames that the mask calls real, and under several processes
    over the frames of all of them; SyncBatchNorm, which refuses CPU tensors and knows no mask, isn't needed. In
    eval mode the running statistics make it a scale and a shift.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, size: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.register_buffer("running_mean", torch.empty(size))
        self.register_buffer("running_var", torch.empty(size))
        self.register_buffer("num_batches_tracked", torch.empty((), dtype=torch.long))

    @torch.no_grad()
    def reset_buffers(self) -> None:
        """Forgets what was seen."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) → (B, T, D); mask (B, T) is True on real frames."""
        if self.training:
            scale, shift = self._scale_and_shift(*self._batch_statistics(x, mask))
        else:
            scale, shift = self.scale_and_shift()
        return x * scale.to(x.dtype) + shift.to(x.dtype)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the norm is in eval mode: a factor and a summand, (D,) each."""
        return self._scale_and_shift(self.running_mean, self.running_var)

    def _scale_and_shift(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.weight * torch.rsqrt(variance + self.eps).to(self.weight.dtype)
        return scale, self.bias - mean.to(self.bias.dtype) * scale

    def _batch_statistics(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        values = x.float()  # sums over many frames lose too much in half precision
        real = None if mask is None else mask[..., None].to(values.dtype)
        count = values.new_tensor(x.shape[0] * x.shape[1]) if real is None else real.sum()
        count = sum_over_processes(count)
        total = (values if real is None else values * real).sum((0, 1))
        mean = sum_over_processes(total) / count
        squares = (values - mean).square()
        variance = sum_over_processes((squares if real is None else squares * real).sum((0, 1))) / count
        if not _recomputing.get():
            self._track(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
        return mean, variance

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce by sum; each process's gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def several_processes() -> bool:
    """Whether this process trains together with others."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return distributed and torch.distributed.get_world_size() > 1


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes that train together, with gradients; the tensor itself for one alone."""
    if not several_processes():
        return x
    return _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call,no-any-return]
