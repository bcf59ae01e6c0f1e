"""The plain formulas of what the other modules compute faster, and the switch that has a model run on them.

What is written here is the definition; `with plain():` a model gives what these formulas give. The tests hold the fast
paths against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Within the block models run on the plain formulas; for all threads."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def is_plain() -> bool:
    """Whether the plain formulas were asked for."""
    return _plain


def is_traced() -> bool:
    """Whether a graph is being made of what runs: then its sizes are symbols, and its values aren't there."""
    if torch.compiler.is_compiling():
        return True
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def is_unseen() -> bool:
    """Whether neither autograd nor a tracer looks on, so that memory may be viewed and written to at will."""
    return not (torch.is_grad_enabled() or is_special())


def is_special() -> bool:
    """Whether it matters by which operations, and of what shapes, a result comes about."""
    return _plain or is_traced() or is_transformed()


def is_hooked(module: nn.Module) -> bool:
    """Whether a hook of its, or of a part of it, looks on, or a part is compiled: they are to find whole batches.

    Those are (B, T, …), of few shapes; a compiled part would be compiled anew for each other combination of lengths.
    """
    return any(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
        or part._compiled_call_impl is not None
        or "_orig_mod" in part._modules  # what `torch.compile` makes of a module
        for part in module.modules()
    )


def is_transformed() -> bool:
    """Whether `torch.func` or forward-mode differentiation is at work, which know ordinary operations alone."""
    return forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def strided_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """(B, T, C) with (O, C, k) → (B, T', O): y_t = b + Σ_j W_j x_{stride·t + j}."""
    return F.conv1d(x.transpose(1, 2), weight, bias, stride=stride).transpose(1, 2)


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, T, D) with (D, 1, k), k odd → (B, T, D): each channel with its own kernel, zeros beyond both ends."""
    padding = weight.shape[2] // 2
    return F.conv1d(x.transpose(1, 2), weight, bias, padding=padding, groups=weight.shape[0]).transpose(1, 2)


def position_scores(q: Tensor, p: Tensor) -> Tensor:
    """Q (B, H, T, K) with p (H, K, 2T - 1) → (B, H, T, T): the score of query i and key j is q_i · p_{T-1-i+j}."""
    frames = q.shape[2]
    time = torch.arange(frames, device=q.device)
    column = frames - 1 - time[:, None] + time
    return (q @ p).gather(-1, column.expand(*q.shape[:2], frames, frames))


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax((scale · q) kᵀ + bias): (B, H, T, K) twice → (B, H, T, T).

    bias: broadcastable to the result, -inf where a key doesn't count.
    """
    scores = (q * scale) @ k.transpose(-1, -2)
    return (scores if bias is None else scores + bias).softmax(-1)
