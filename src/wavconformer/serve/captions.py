"""Live captions as events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.tasks.transcribe import Transcriber


class Captions:
    """Words as they are heard."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber
        self._blocks: list[NDArray[np.float32]] = []

    def feed(self, block: NDArray[np.float32]) -> Iterator[dict[str, Any]]:
        """Takes the next samples (S,)."""
        self._blocks.append(block)
        yield from ()

    def finish(self) -> Iterator[dict[str, Any]]:
        """The rest."""
        t = self._transcriber(np.concatenate(self._blocks), sampling_rate=self._transcriber.sampling_rate)
        yield {"type": "final", "text": t.text}
