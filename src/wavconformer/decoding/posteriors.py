"""Posteriors of a model's scores, in numpy."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


def log_softmax(scores: NDArray[Float]) -> NDArray[Float]:
    """Natural logarithms of the posteriors, (…, V) → (…, V), in the scores' own precision."""
    shifted = scores - scores.max(axis=-1, keepdims=True, initial=-np.inf)
    logs: NDArray[Float] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs
