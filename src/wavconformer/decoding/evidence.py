"""What the frames of a recording say of a text's labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evidence:
    """Of each frame of a recording, or of a part of it, what it costs to hear a label there.

    labels: (L,) ids of the vocabulary, the blank first.
    costs: (T, L) how much less likely than the frame's likeliest label each is: a difference of logits, in nats.
    is_quiet: (T,) whether nothing sounds in the frame and around it.
    seconds_per_frame: 0.02 for the released models. duration: seconds of audio.
    """

    labels: tuple[int, ...]
    costs: NDArray[np.float32]
    is_quiet: NDArray[np.bool_]
    seconds_per_frame: float
    duration: float

    def __len__(self) -> int:
        return len(self.costs)

    def part(self, start: int, end: int) -> Evidence:
        """That of frames start … end - 1."""
        costs = self.costs[start:end]
        return Evidence(
            self.labels,
            costs,
            self.is_quiet[start:end],
            self.seconds_per_frame,
            len(costs) * self.seconds_per_frame,
        )
