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
        (others if _is_vector(name, parameter) else decaying).append(parameter)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _is_vector(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a norm's weight, a bias, or such: those of attention have a row for each head."""
    return parameter.ndim < 2 or name.endswith(("bias", "pos_bias_u", "pos_bias_v"))


def make_optimizer(model: nn.Module, recipe: Optim) -> torch.optim.Optimizer:
    """AdamW over the model's trainable parameters, or Muon over the encoder's matrices and AdamW over the others."""
    matrices = encoder_matrices(model) if recipe.name == "muon" else []
    taken = set(map(id, matrices))
    groups = parameter_groups(model, recipe.weight_decay)
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in taken]
    adamw = torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, fused=True)
    if not matrices:
        return adamw
    return Together(Muon(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay), adamw)


def encoder_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trainable weights of the encoder's linear layers and pointwise convolutions."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ".encoder.layers." in name and not _is_vector(name, parameter)
        if parameter.shape[1] > 1 and parameter.shape[2:].numel() == 1  # no depthwise convolution
    ]


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised mean of gradients, for matrices (K. Jordan et al., "Muon", 2024).

    params: matrices (R, C), or convolution weights (R, C, 1). momentum: of the mean, which is Nesterov's.

    A step is as large as AdamW's usually are, 0.2 times the root of the longer side (arXiv 2502.16982, equation 4), so
    that both take the same learning rate and decay.
    """

    def __init__(self, params: Any, *, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves each matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                directions = orthogonalised(torch.stack([self._mean(one, group["momentum"]) for one in parameters]))
                size = group["lr"] * 0.2 * max(shape[:2]) ** 0.5
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction.view(shape), alpha=-size)

    def _mean(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """The running mean of its gradient, one step ahead (R, C)."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        mean: Tensor = gradient.lerp(state["momentum"], momentum)
        return mean.flatten(1)


def orthogonalised(x: Tensor) -> Tensor:
    """Matrices (N, R, C) with their singular values brought to about 1, between 0.7 and 1.2.

    Five Newton-Schulz iterations of degree five, with coefficients that rise steeply at 0 (Jordan et al.), in
    bfloat16, which is exact enough for it.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    y = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).bfloat16()
    for _ in range(5):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    orthogonal: Tensor = (y.mT if is_tall else y).to(x.dtype)
    return orthogonal


class Together(torch.optim.Optimizer):
    """Several optimizers as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share_groups()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """A step of each."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Those of the parts, in order."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """Whoever sets a learning rate in these groups sets it in the parts'."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]


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
