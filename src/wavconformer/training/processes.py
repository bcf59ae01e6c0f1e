"""The processes that train together: one, or several with a copy of the model each (DDP)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import torch

from wavconformer.errors import ConfigError
from wavconformer.training.recipe import Recipe

Key = TypeVar("Key", bound=Hashable)


class Processes:
    """Those that `accelerate launch` or torchrun started, as one of them sees them.

    recipe, model: what is trained, which decides on precision, and on how gradients are exchanged.

    Raises ConfigError for a precision that can't be had, and for launchers' settings that aren't supported.
    """

    def __init__(self, recipe: Recipe, model: Any) -> None:
        self.accelerator = _accelerator(recipe, model)

    @property
    def rank(self) -> int:
        """The number of this process."""
        return int(self.accelerator.process_index)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    def gather(self, items: list[Any]) -> list[Any]:
        """The lists of all processes, one behind the other."""
        if self.count == 1:
            return items
        from accelerate.utils import gather_object

        gathered: list[Any] = gather_object(items)
        return gathered

    def sum(self, values: Mapping[Key, float]) -> dict[Key, float]:
        """Each number summed over the processes, all of which have the same keys in the same order."""
        if self.count == 1:
            return dict(values)
        # Counts stay exact in float64, which MPS alone doesn't have, and MPS has no several processes.
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        return dict(zip(values, self.accelerator.reduce(tensor, "sum").tolist(), strict=True))

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.accelerator.wait_for_everyone()


def _accelerator(recipe: Recipe, model: Any) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedDataParallelKwargs, DistributedType
    except ImportError as error:
        raise ConfigError(f"Training needs accelerate ({error}): pip install 'wavconformer[train]'.") from error
    trainer, config = recipe.trainer, model.config
    # Weights without a gradient in some update: of dropped layers, of masks that weren't drawn, of a frozen encoder.
    masked = model.base_model.masked_spec_embed
    may_stay_unmasked = recipe.task != "pretrain" and masked is not None and masked.requires_grad
    unused = bool(config.layerdrop or trainer.freeze_encoder_steps or may_stay_unmasked)
    precision = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[trainer.precision]
    # accelerate keeps the precision of a process's first run for all of them.
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=precision,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        )
    except ValueError as error:
        raise ConfigError(f"trainer.precision={trainer.precision} can't be had here: {error}") from error
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ConfigError(
            f"{accelerator.distributed_type.value} isn't supported: checkpoints are of whole weights. Use several "
            "processes with a copy each (accelerate launch --multi_gpu, or torchrun)."
        )
    if os.environ.get("WORLD_SIZE", "1") != str(accelerator.num_processes):
        raise ConfigError("The processes that were launched don't find each other: launch with accelerate or torchrun.")
    return accelerator
