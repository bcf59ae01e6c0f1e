"""How many may come in: those that find no place are told when to come again, and nothing waits without bound."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wavconformer.serve.failures import Failure

_LONGEST_WAIT = 60
# How much the newest request counts for what one takes.
_NEWEST = 0.1


class Admission:
    """Places for requests: some that are worked on at once, some that wait for them."""

    def __init__(self, at_once: int, waiting: int = 0, what: str = "requests") -> None:
        self._at_once, self._places, self._what = at_once, at_once + waiting, what
        self._inside = 0
        self._seconds = 1.0
        self.refused = 0

    def __len__(self) -> int:
        """Requests that are inside."""
        return self._inside

    @property
    def wait(self) -> int:
        """Seconds until there is a place, as far as can be told from those before."""
        return max(1, min(_LONGEST_WAIT, math.ceil(self._seconds * self._inside / self._at_once)))

    def check(self) -> None:
        """Raises Failure, 429 with Retry-After, where there is no place."""
        if self._inside >= self._places:
            self.refused += 1
            raise Failure(
                429,
                f"There are {self._inside} {self._what} here already. Try again in {self.wait} s.",
                code="busy",
                headers={"Retry-After": str(self.wait)},
            )

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place, held for as long as the block lasts. Raises as `check` does."""
        self.check()
        self._inside += 1
        begun = time.monotonic()
        try:
            yield
        finally:
            self._inside -= 1
            self._seconds += _NEWEST * (time.monotonic() - begun - self._seconds)
