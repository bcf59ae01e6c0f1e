"""The sources of randomness of a process: Python's, numpy's, torch's (its devices' too), SpecAugment's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def set_seed(seed: int) -> None:
    """Has all sources but SpecAugment's, which has a generator of its own, begin from a number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (what others draw from by default)
    torch.manual_seed(seed)


def random_state(mask_generator: np.random.Generator | None) -> dict[str, Any]:
    """Where the sources are. mask_generator: SpecAugment's."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (the default of others)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "python": _listed(random.getstate()),
        "masks": None if mask_generator is None else mask_generator.bit_generator.state,
    }


def set_random_state(state: dict[str, Any], mask_generator: np.random.Generator | None) -> None:
    """Puts the sources where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(_tupled(state["python"]))
    if mask_generator is not None and state["masks"] is not None:
        mask_generator.bit_generator.state = state["masks"]


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(one) for one in value) if isinstance(value, list) else value
