"""What turns a model's scores into words."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.words import Word


class Decoder(Protocol):
    """The one place where frames become words. It is called for one stretch of speech after the other."""

    def __call__(self, log_probs: NDArray[np.float32], first_frame: int = 0) -> tuple[Word, ...]:
        """The words of a stretch of speech, in order.

        log_probs: (T, V) natural logarithms of the posteriors, of a whole recording or of what lies between two pauses.
        first_frame: the recording's frame that the first of them is; times count from the recording's start.
        """
