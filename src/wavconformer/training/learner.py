"""The model as it learns: its loss, its optimizer, the average of its weights, and what an update does to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from wavconformer.checkpoint.weights import save_tensors
from wavconformer.errors import CheckpointError
from wavconformer.model.batch_norm import FrameBatchNorm
from wavconformer.training.examples import Batch
from wavconformer.training.objectives import objective_of
from wavconformer.training.optimization import MovingAverage, make_optimizer, rate
from wavconformer.training.processes import Processes
from wavconformer.training.recipe import Recipe
from wavconformer.training.starting import Start

TRAINED_FILE = "trained.safetensors"
EMA_FILE = "ema.safetensors"
_MEASURED = ("perplexity", "right")  # beside the loss, in pretraining


@dataclass(frozen=True)
class Learned:
    """What an update came to.

    loss: of all processes and batches. norm: of the gradient, before it was clipped. lr: the learning rate.
    sums: the loss's terms, and other measures, over all processes and batches.
    is_finite: whether the update was made; else all is as it was before.
    """

    loss: float
    norm: float
    lr: float
    sums: dict[str, float]
    is_finite: bool


class Learner:
    """A model with its objective and optimizer, spread over the processes.

    parameters: those that are trained. ema: the average of weights, None where there is none.
    """

    def __init__(self, recipe: Recipe, start: Start, processes: Processes) -> None:
        self.recipe = recipe
        self.start = start
        self.model = start.model
        self._processes = processes
        self._accelerator = processes.accelerator
        self.objective = objective_of(recipe.task, self.model, recipe.trainer.pretraining)
        # In whole weights the optimizer's order of parameters is the model's.
        optimizer = make_optimizer(self.model, recipe.optim)
        self.objective.to(processes.device)
        self._wrapped, self.optimizer = self._accelerator.prepare(self.objective, optimizer)
        self.parameters = [value for value in self.model.parameters() if value.requires_grad]
        self._encoder = [value for value in self.model.base_model.parameters() if value.requires_grad]
        self.ema = None if recipe.trainer.ema is None else MovingAverage(self.model, recipe.trainer.ema)

    def averaged(self) -> AbstractContextManager[None]:
        """A block in which the model has the average for weights, where one is kept."""
        return nullcontext() if self.ema is None else self.ema.in_place_of(self.model)

    def make_ready(self, step: int) -> None:
        """Freezes what stays as it is in the update behind `step` others, and no more than that."""
        trainer = self.recipe.trainer
        if trainer.freeze_encoder_steps:
            for parameter in self._encoder:
                parameter.requires_grad_(step >= trainer.freeze_encoder_steps)
        if trainer.freeze_batch_norm or self.start.is_small:
            for module in self.model.modules():
                if isinstance(module, FrameBatchNorm):
                    module.eval()

    def learn(self, step: int, batches: Sequence[Batch], counts: Mapping[str, float]) -> Learned:
        """Forward and backward passes, and the optimizer's step unless something isn't finite.

        step: updates before this one. batches: of this process. counts: what the loss's sums are divided by, of all
        processes and batches.
        """
        # A pass that goes wrong leaves its mark in the running statistics too.
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        sums = self._passes(batches, dict(counts))
        loss = sum(
            weight * sums[term] / max(counts[self.objective.divisors[term]], 1.0)
            for term, weight in self.objective.weights.items()
        )
        norm = self._accelerator.clip_grad_norm_(self.parameters, self.recipe.trainer.clip_norm)
        norm = float(norm) if norm is not None else 0.0
        lr = self.recipe.optim.lr * rate(self.recipe.schedule, step, self.recipe.trainer.max_steps)
        # With float16 the gradients' scale is too high now and then: the scaler leaves out the step and lowers it.
        scaler = self._accelerator.scaler
        is_scale_high = scaler is not None and scaler.get_scale() >= 1
        is_finite = bool(np.isfinite(loss)) and (bool(np.isfinite(norm)) or is_scale_high)
        if is_finite:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.ema is not None:
                self.ema.update(self.model)
        else:
            if scaler is not None:
                scaler.update()
            self.optimizer.zero_grad()
            with torch.no_grad():
                for name, value in self.model.named_buffers():
                    value.copy_(buffers[name])
        return Learned(float(loss), norm, lr, sums, is_finite)

    def _passes(self, batches: Sequence[Batch], counts: dict[str, float]) -> dict[str, float]:
        """Forward and backward through the batches: the sums of all processes, and gradients."""
        totals: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            is_last = number == len(batches) - 1
            with nullcontext() if is_last else self._accelerator.no_sync(self._wrapped):
                sums, measured = self._wrapped(batch.to(self._processes.device).inputs)
                # DDP averages gradients over the processes: times their number that is a sum.
                self._accelerator.backward(self.objective.total(sums, counts) * self._processes.count)
            for name, value in (*sums.items(), *((key, measured[key]) for key in _MEASURED if key in measured)):
                totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        summed = self._processes.sum({name: float(value) for name, value in totals.items()})
        if "perplexity" in summed:
            summed["perplexity"] /= self._processes.count * len(batches)
        return summed

    def is_sound(self) -> bool:
        """Whether all trained weights are finite."""
        return all(bool(value.isfinite().all()) for value in self.parameters)

    # --- in a checkpoint's folder

    def save(self, folder: Path) -> None:
        """Writes the model as it is, by its own name, and the average."""
        self.start.save(folder)
        if self.start.is_small:
            save_tensors(self.start.trained(), folder / TRAINED_FILE)
        if self.ema is not None:
            kept = self.ema.tensors
            if self.start.is_small:
                kept = {name: kept[name] for name in self.start.trainable}
            save_tensors(kept, folder / EMA_FILE)

    def state_dict(self) -> dict[str, Any]:
        """Where the optimizer is, and with float16 the gradients' scale."""
        scaler = self._accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def restore(self, folder: Path, state: Mapping[str, Any], ema_updates: int) -> None:
        """Takes up a checkpoint whose whole weights the model was made of. state: what `state_dict` gave."""
        if self.start.is_small:
            self._load(load_file(folder / TRAINED_FILE))
        self.optimizer.load_state_dict(state["optimizer"])
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema = MovingAverage(self.model, self.ema.decay)
            if (folder / EMA_FILE).is_file():
                self.ema.load(load_file(folder / EMA_FILE), ema_updates)

    def take_best(self, folder: Path) -> None:
        """Gives the model the weights of a checkpoint: their average, where one is kept."""
        if self.ema is not None:
            self._load(load_file(folder / EMA_FILE))
        elif self.start.is_small:
            self._load(load_file(folder / TRAINED_FILE))
        else:  # in one piece or in several
            pieces = map(load_file, sorted(folder.glob("model*.safetensors")))
            self._load({name: value for piece in pieces for name, value in piece.items()})

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts these weights into the model, which may have others besides."""
        _, unexpected = self.model.load_state_dict(tensors, strict=False)
        if unexpected:
            raise CheckpointError(f"The checkpoint holds weights that the model doesn't have: {unexpected[:5]}.")
