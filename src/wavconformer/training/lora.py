"""Low-rank adaptation (arXiv 2106.09685): small matrices beside frozen weights, in PEFT's file format.

PEFT itself imports transformers, which this package does without; its adapters are these few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavconformer.errors import ConfigError
from wavconformer.model.base import SpeechModel
from wavconformer.training.recipe import Lora

_PREFIX = "base_model.model."  # of the names in PEFT's files


class LoraLinear(nn.Module):
    """A linear layer, kept as it is, and beside it B·A·x, scaled by alpha / rank. B starts at zero."""

    def __init__(self, base: nn.Linear, settings: Lora) -> None:
        super().__init__()
        self.base = base
        base.requires_grad_(False)
        place: dict[str, Any] = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(settings.rank, base.in_features, **place))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, settings.rank, **place))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
        self.scale = settings.alpha / settings.rank
        self.dropout = settings.dropout

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies by."""
        return self.base.weight + self.scale * self.lora_B @ self.lora_A

    @property
    def bias(self) -> Tensor | None:
        """The layer's own."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        kept: Tensor = self.base(x)
        low = F.dropout(x, self.dropout, self.training) @ self.lora_A.T
        return torch.add(kept, low @ self.lora_B.T, alpha=self.scale)


def add_lora(model: SpeechModel, settings: Lora) -> list[str]:
    """Freezes the backbone, puts low-rank matrices beside its linear layers of those names, and returns their places.

    The head stays in training. Raises ConfigError where there is no name, for one that no linear layer has, and for a
    rank that is more than a layer's own.
    """
    if not settings.targets:
        raise ConfigError("model.lora.targets is empty: name the linear layers, or leave it out.")
    model.freeze_base_model()
    found = [
        (owner, path, name, layer)
        for path, owner in model.base_model.named_modules()
        for name, layer in owner.named_children()
        if isinstance(layer, nn.Linear) and name in settings.targets
    ]
    missing = set(settings.targets) - {name for _, _, name, _ in found}
    if missing:
        names = {
            name
            for owner in model.base_model.modules()
            for name, layer in owner.named_children()
            if isinstance(layer, nn.Linear)
        }
        raise ConfigError(
            f"model.lora.targets names {', '.join(sorted(missing))}, and no linear layer of the model is called so; "
            f"there are {', '.join(sorted(names))}."
        )
    full = min(min(layer.weight.shape) for *_, layer in found)
    if settings.rank > full:
        raise ConfigError(
            f"model.lora.rank is {settings.rank}, but the layers' own weights have rank {full} at most: take a small "
            "part of that, as 8."
        )
    for owner, _, name, layer in found:
        setattr(owner, name, LoraLinear(layer, settings))
    return [f"{path}.{name}" if path else name for _, path, name, _ in found]


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Adds the low-rank products to the weights they stand beside, in place, and takes the matrices away."""
    for owner in list(model.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, LoraLinear):
                layer.base.weight.add_(layer.scale * layer.lora_B @ layer.lora_A)
                setattr(owner, name, layer.base)


def peft_tensors(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Trained tensors by the names that they have in PEFT's adapter_model.safetensors."""
    renamed = {}
    for name, tensor in trained.items():
        is_matrix = name.endswith(("lora_A", "lora_B"))
        renamed[f"{_PREFIX}{name}.weight" if is_matrix else _PREFIX + name] = tensor
    return renamed


def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `peft_tensors`."""
    return {
        name.removeprefix(_PREFIX).replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B"): tensor
        for name, tensor in tensors.items()
    }


def peft_config(settings: Lora, base: str, heads: list[str]) -> dict[str, Any]:
    """What PEFT's adapter_config.json says. heads: modules that were trained whole."""
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
        "modules_to_save": heads,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "task_type": None,
    }
