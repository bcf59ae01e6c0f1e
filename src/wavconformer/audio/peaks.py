"""The outline of a recording, to draw."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def peaks(blocks: Iterable[NDArray[np.float32]], size: int) -> NDArray[np.uint8]:
    """The largest absolute value of every `size` samples, as 0 to 255 of the largest of all.

    blocks: samples (S,), one block after the other; they are not kept.
    """
    found: list[NDArray[np.float32]] = []
    rest = np.zeros(0, np.float32)
    for block in blocks:
        samples = np.concatenate([rest, np.abs(block)])
        count = len(samples) // size
        found.append(samples[: count * size].reshape(count, size).max(axis=1))
        rest = samples[count * size :]
    if len(rest):
        found.append(rest.max(keepdims=True))
    outline = np.concatenate([np.zeros(0, np.float32), *found])
    most = float(outline.max(initial=0.0))
    return np.round(outline * (255 / most if most else 0.0)).astype(np.uint8)
