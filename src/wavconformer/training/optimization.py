"""The optimizer, the learning rate over a run, and the running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wavconformer.training.recipe import Optim, Schedule


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: those that decay, and norms, biases and other vectors, that don't."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias = name.endswith(("bias", "pos_bias_u", "pos_bias_v"))
        (others if parameter.ndim < 2 or is_bias else decaying).append(parameter)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, recipe: Optim) -> torch.optim.Optimizer:
    """AdamW over the model's trainable parameters."""
    groups = parameter_groups(model, recipe.weight_decay)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """The learning rate of an update, from 0 on, as a share of the highest, in a run of so many updates.

    It is a function of the step alone, so that nothing of it needs saving.
    """
    warmup, hold = schedule.warmup * steps, schedule.hold * steps
    if step < warmup:
        return schedule.initial + (1 - schedule.initial) * step / warmup
    if schedule.kind == "constant" or step < warmup + hold:
        return 1.0
    left = max(steps - 1 - warmup - hold, 1.0)
    progress = min((step - warmup - hold) / left, 1.0)
    if schedule.kind == "tri_stage":
        return float(schedule.final**progress)
    if schedule.kind == "polynomial":
        return float(schedule.final + (1 - schedule.final) * (1 - progress) ** schedule.power)
    return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2


class MovingAverage:
    """A running mean of a model's weights (EMA); what isn't floating point is taken as it is.

    The mean follows quickly at first: its decay is at most (1 + n) / (10 + n) after n updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights of one more update."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - decay)
            else:
                self.tensors[name].copy_(value)

    def load(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Takes up a mean that was saved."""
        self.updates = updates
        for name, value in tensors.items():
            self.tensors[name].copy_(value)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model with the mean for weights, for the time of the block."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
