"""How weights start: the scheme of the published models, one rule for each kind of module."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import init

from wavconformer.model.attention import RelativeSelfAttention, RotaryPositions
from wavconformer.model.batch_norm import FrameBatchNorm
from wavconformer.model.conformer import PositionalConvWeights, WeightNorm
from wavconformer.model.feature_encoder import FeatureProjection, NormOverTime
from wavconformer.model.quantizer import GumbelVectorQuantizer
from wavconformer.model.xvector import AMSoftmaxLoss


@torch.no_grad()
def initialize(root: nn.Module, std: float, skip: nn.Module | None = None) -> None:
    """Gives all of `root`'s parameters and buffers their starting values, those below `skip` excepted.

    std: standard deviation of ordinary linear layers, the configuration's `initializer_range`.
    """
    spared = set() if skip is None else set(skip.modules())
    for owner in root.modules():
        if owner in spared:
            continue
        for name, module in owner.named_children():
            if module not in spared:
                initialize_module(module, owner, name, std)
    initialize_module(root, None, "", std)


@torch.no_grad()
def initialize_module(module: nn.Module, owner: nn.Module | None, name: str, std: float) -> None:
    """Starting values of the parameters and buffers that `module` itself holds, as child `name` of `owner`."""
    if isinstance(module, nn.Linear):
        _initialize_linear(module, owner, name, std)
    elif isinstance(module, nn.Conv1d):
        init.kaiming_normal_(module.weight)
        if module.bias is not None:
            bound = math.sqrt(module.groups / (module.in_channels * module.kernel_size[0]))
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, (nn.LayerNorm, NormOverTime, FrameBatchNorm)):
        init.ones_(module.weight)
        init.zeros_(module.bias)
        if isinstance(module, FrameBatchNorm):
            module.reset_buffers()
    elif isinstance(module, RotaryPositions):
        module.reset_buffers()
    elif isinstance(module, RelativeSelfAttention):
        init.xavier_uniform_(module.pos_bias_u)
        init.xavier_uniform_(module.pos_bias_v)
    elif isinstance(module, GumbelVectorQuantizer):
        init.uniform_(module.codevectors)
    elif isinstance(module, WeightNorm):
        size, _, kernel = module.original1.shape
        init.normal_(module.original1, std=2 * math.sqrt(1.0 / (kernel * size)))
        module.original0.copy_(module.original1.norm(dim=(0, 1), keepdim=True))
    elif isinstance(module, PositionalConvWeights):
        init.zeros_(module.bias)
    elif isinstance(module, AMSoftmaxLoss):
        init.normal_(module.weight)
    else:
        for key, parameter in module.named_parameters(recurse=False):
            if key == "masked_spec_embed":
                init.uniform_(parameter)
            elif key == "layer_weights":
                init.constant_(parameter, 1.0 / len(parameter))
            else:
                raise TypeError(f"No rule says how the parameter {key} of {type(module).__name__} starts.")


def _initialize_linear(module: nn.Linear, owner: nn.Module | None, name: str, std: float) -> None:
    if isinstance(owner, FeatureProjection) or name in ("project_hid", "project_q"):
        bound = math.sqrt(1.0 / module.in_features)
        init.uniform_(module.weight, -bound, bound)
        init.uniform_(module.bias, -bound, bound)
    elif isinstance(owner, GumbelVectorQuantizer):
        init.normal_(module.weight, std=1.0)
        init.zeros_(module.bias)
    else:
        init.normal_(module.weight, std=std)
        if module.bias is not None:
            init.zeros_(module.bias)
