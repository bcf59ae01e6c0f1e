"""PyTorch's layers, channels last and without their own starting values.

`initialization` gives every parameter its value, so drawing others first is work for nothing; and a model whose weights
come from a file is built without touching them at all. The convolutions keep the weights' shape of the checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn

from wavconformer.model.convolution import depthwise_convolution, strided_convolution
from wavconformer.model.linear import Prepacked, linear

# Prepacked weights take as much memory again: only those of small models, which gain by it, are worth it.
MOST_PREPACKED = 64 << 20


class _Prepackable(nn.Module):
    """A layer whose weight may be prepacked. That is no part of a copy or a pickle."""

    weight: Tensor
    prepacked: Prepacked | None = None

    def train(self, mode: bool = True) -> _Prepackable:
        """Training changes the weight, and fused optimizers don't say so: what is prepacked goes."""
        self.prepacked = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "prepacked"}


def prepack(model: nn.Module) -> None:
    """Lays out the weights of a model's products for the CPU beforehand, as far as it is small (64 MB).

    Where few frames go through it at a time, that is a tenth less to do. A weight that is changed later counts as it
    then is, and isn't prepacked any more, nor after `train` and `eval`; only changes through `weight.data`, and those
    of fused optimizers in eval mode, aren't noticed.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _Prepackable)]
    if sum(layer.weight.nbytes for layer in layers) > MOST_PREPACKED:
        return
    for layer in layers:
        layer.prepacked = Prepacked.of(layer.weight.flatten(1))


class Linear(_Prepackable, nn.Linear):
    """`nn.Linear` whose weights are left as allocated."""

    def reset_parameters(self) -> None:
        """Does nothing: see the module's docstring."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        return linear(x, self.weight, self.bias, self.prepacked)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose weights are left as allocated."""

    def reset_parameters(self) -> None:
        """Does nothing: see the module's docstring."""


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` whose weights are left as allocated; the layers below say how it is computed."""

    def reset_parameters(self) -> None:
        """Does nothing: see the module's docstring."""


class StridedConv(Conv1d):
    """A convolution without padding that shortens the sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T', O)."""
        return strided_convolution(x, self.weight, self.bias, self.stride[0])


class PointwiseConv(_Prepackable, Conv1d):
    """A convolution that sees one frame: a linear layer whose weight is (O, I, 1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, I) → (B, T, O)."""
        return linear(x, self.weight.squeeze(-1), None, self.prepacked)


class DepthwiseConv(Conv1d):
    """A convolution of each channel by itself; the length stays."""

    def __init__(self, size: int, kernel: int) -> None:
        super().__init__(size, size, kernel, padding=kernel // 2, groups=size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return depthwise_convolution(x, self.weight, self.bias)
