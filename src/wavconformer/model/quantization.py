"""int8 on a CPU: weights rounded once, the input of each layer row by row as it comes.

A row, here a frame or the frames of a convolution's window, has its own scale: no utterance's values decide how
another's are rounded, as one scale for a whole tensor, the usual way, would have it. What an utterance gives in company
and alone is equal to within the rounding: differences of the last digit, which other shapes bring, may tip a value to
the next of its 8-bit steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from wavconformer.model.conformer import LanguageAdapter
from wavconformer.model.convolution import windows
from wavconformer.model.layers import Linear, PointwiseConv, StridedConv

_packing = Lock()  # the engine is a setting of the whole process

# Layers with fewer weights stay as they are: they cost next to nothing.
LEAST_WEIGHTS = 10_000


class Int8Layer(nn.Module):
    """A linear layer or a convolution without padding, channels last, with int8 weights.

    weight: int8, in the layer's own shape, (O, I) or (O, C, k). weight_scale: (O,); their product is the weight.
    """

    weight_scale: Tensor

    def __init__(self, shape: tuple[int, ...], stride: int, has_bias: bool) -> None:
        super().__init__()
        self.out_channels = shape[0]
        self.kernel_size = shape[2:] or (1,)
        self.stride = (stride,)
        self.weight = nn.Parameter(torch.empty(shape, dtype=torch.int8), requires_grad=False)
        self.register_buffer("weight_scale", torch.empty(shape[0]))
        self.bias = nn.Parameter(torch.empty(shape[0]), requires_grad=False) if has_bias else None
        self._packed: tuple[tuple[int, int], Any] | None = None

    @classmethod
    def shaped_like(cls, layer: nn.Linear | nn.Conv1d) -> Int8Layer:
        """A layer of that one's shape, its values unset."""
        stride = layer.stride[0] if isinstance(layer, nn.Conv1d) else 1
        with torch.device(layer.weight.device):
            return cls(tuple(layer.weight.shape), stride, layer.bias is not None)

    @torch.no_grad()
    def take(self, layer: nn.Linear | nn.Conv1d) -> None:
        """Rounds that layer's weights, each output channel by its largest."""
        weight = layer.weight.float().flatten(1)
        scale = weight.abs().amax(1) / 127
        scale[scale == 0] = 1.0
        self.weight.copy_((weight / scale[:, None]).round().to(torch.int8).view(self.weight.shape))
        self.weight_scale.copy_(scale)
        if self.bias is not None and layer.bias is not None:
            self.bias.copy_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O), or (B, T, C) → (B, T', O).

        Raises ValueError where gradients are wanted, and elsewhere than on a CPU.
        """
        if torch.is_grad_enabled() and (self.training or x.requires_grad):
            raise ValueError("An int8 model can't be trained: load the checkpoint without quantization for that.")
        if x.device.type != "cpu":
            raise ValueError(f"int8 runs on a CPU, but the input is on '{x.device}': move the model back with .cpu().")
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1 and stride == 1:
            return self._product(x)
        return torch.stack([self._product(windows(row.contiguous(), kernel, stride)) for row in x])

    def _product(self, given: Tensor) -> Tensor:
        x = given.float()
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
        levels = _levels()
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / largest, 1 / levels, levels + 1, self._pack()
        )
        product.mul_(largest)
        return (product if self.bias is None else product.add_(self.bias)).to(given.dtype)

    def _pack(self) -> Any:
        """The weights as the kernel wants them, made once."""
        version = (self.weight.data_ptr(), -1 if self.weight.is_inference() else self.weight._version)
        if self._packed is None or self._packed[0] != version:
            columns = self.weight.transpose(1, 2) if self.weight.ndim == 3 else self.weight
            self._packed = (version, _packed(columns.flatten(1).contiguous(), self.weight_scale))
        return self._packed[1]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_packed": None}  # no part of a copy or a pickle

    def extra_repr(self) -> str:
        """The shape, for printing."""
        return f"{tuple(self.weight.shape)}, stride={self.stride[0]}, int8"


def _packed(weight: Tensor, scale: Tensor) -> Any:
    with _packing:
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = "fbgemm"
        try:
            return _pack_for_engine(weight, scale)
        finally:
            torch.backends.quantized.engine = before


def _pack_for_engine(weight: Tensor, scale: Tensor) -> Any:
    with warnings.catch_warnings():
        # Quantized tensors are on their way out of PyTorch; the kernel's own packing still takes nothing else.
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
        zeros = torch.zeros(len(weight), dtype=torch.long)
        tensor = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
    return torch.ops.quantized.linear_prepack(tensor, None)


@lru_cache(maxsize=1)
def _levels() -> int:
    """Steps of an input on each side of zero.

    Without the VNNI instructions products of a pair are added in 16 bits, which inputs of 8 bits would overflow.
    """
    return 127 if has_vnni() else 63


def has_vnni() -> bool:
    """Whether the processor multiplies 8-bit numbers and adds their products in 32 bits."""
    names = ("_is_vnni_supported", "_is_avx512_vnni_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


def require_int8() -> None:
    """Raises ValueError where this PyTorch or this processor has no fast int8 product."""
    lacking = None
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        lacking = "this build of PyTorch has no fbgemm kernels, as on processors that aren't x86"
    elif not hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32"):
        lacking = f"PyTorch {torch.__version__} doesn't ship the kernel it runs on"
    if lacking is not None:
        raise ValueError(f"quantization='int8' isn't possible here: {lacking}. Load the model without it.")


def is_int8(model: nn.Module) -> bool:
    """Whether any of its layers is rounded."""
    return any(isinstance(module, Int8Layer) for module in model.modules())


def quantize(model: nn.Module) -> None:
    """Rounds the large linear layers and convolutions of a model's backbone to int8, in place, and freezes it.

    Heads and language adapters stay as they are. Raises ValueError where int8 isn't possible.
    """
    require_int8()
    backbone = getattr(model, "base_model", model)
    spared = {
        id(part) for adapter in backbone.modules() if isinstance(adapter, LanguageAdapter) for part in adapter.modules()
    }
    for owner, name, layer in list(_layers(backbone)):
        if layer.weight.numel() >= LEAST_WEIGHTS and id(layer) not in spared:
            rounded = Int8Layer.shaped_like(layer)
            rounded.take(layer)
            setattr(owner, name, rounded)
    model.requires_grad_(False)


def prepare(model: nn.Module, names: Collection[str]) -> None:
    """Makes the layers of those names, as `model.named_modules` has them, int8 ones whose values are to be loaded."""
    paths = {id(module): path for path, module in model.named_modules()}
    for owner, name, layer in list(_layers(model)):
        if paths[id(layer)] in names:
            setattr(owner, name, Int8Layer.shaped_like(layer))
    model.requires_grad_(False)


def _layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear | nn.Conv1d]]:
    """What can be rounded: the layer, its owner, and its name there."""
    for owner in model.modules():
        for name, layer in owner.named_children():
            if isinstance(layer, (Linear, PointwiseConv, StridedConv)):
                yield owner, name, layer
