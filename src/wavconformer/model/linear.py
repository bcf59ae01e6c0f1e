"""The matrix product that nearly all of the arithmetic goes through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavconformer.model import reference
from wavconformer.model.packing import MULTIPLE

# Products of fewer multiplications go through PyTorch's default: oneDNN prepares itself for each new shape, which takes
# some 0.4 ms that they don't win back, but for lines of packed utterances, whose shapes are few.
LEAST_PRODUCT = 1 << 25

# Frames for which weights are laid out; oneDNN's layout is the same for most counts.
_FRAMES = 256


@dataclass(frozen=True)
class Prepacked:
    """A weight (O, I) as oneDNN lays it out for its product, and the weight itself with the version it then had.

    The weight is held, so that no other can come to lie where it lies.
    """

    layout: Tensor
    weight: Tensor
    version: int

    @classmethod
    def of(cls, weight: Tensor) -> Prepacked | None:
        """None where oneDNN doesn't take such weights, or their changes couldn't be noticed."""
        if not weight.is_contiguous() or weight.is_inference() or not _suits_onednn(weight):
            return None
        with torch.no_grad():
            made_of = weight.detach()
            return cls(torch.ops.mkldnn._reorder_linear_weight(made_of, _FRAMES), made_of, made_of._version)

    def is_of(self, weight: Tensor) -> bool:
        """Whether the weight is still that of which it was made; changes through `weight.data` aren't noticed."""
        if weight.is_inference() or weight.data_ptr() != self.weight.data_ptr():
            return False
        return weight._version == self.version


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, prepacked: Prepacked | None = None) -> Tensor:
    """X (…, I) with weight (O, I) → (…, O), through the fastest product at hand.

    prepacked: of the weight, which spares oneDNN to lay it out anew in each call.

    On a CPU, without autograd, that is oneDNN's, which PyTorch ships for its compiled graphs: on one with AVX-512 it
    does a sixth more in the same time than the default, and twice as much where frames are few.
    """
    if (
        reference.is_unseen()
        and (x.numel() * weight.shape[0] >= LEAST_PRODUCT or x.shape[:-1].numel() % MULTIPLE == 0)
        and weight.is_contiguous()
        and _suits_onednn(x)
        and _suits_onednn(weight)
    ):
        if prepacked is not None and prepacked.is_of(weight):
            weight = prepacked.layout
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


def _suits_onednn(x: Tensor) -> bool:
    return (
        (type(x) is Tensor or type(x) is nn.Parameter)  # no subclass, which may mean something else by it
        and x.device.type == "cpu"
        and x.dtype is torch.float32
        and x.numel() > 0
        and x.stride(-1) == 1
        and _has_onednn()
        and not torch.is_autocast_enabled("cpu")
    )


@lru_cache(maxsize=1)
def _has_onednn() -> bool:
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
