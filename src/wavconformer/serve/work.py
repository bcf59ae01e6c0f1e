"""One request's work, and what may end it before it is done."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from enum import Enum
from typing import TypeVar

Result = TypeVar("Result")

# Seconds after which whoever waits looks again whether it has to stop.
GLANCE = 0.25


class Reason(Enum):
    """Why work has to stop."""

    GONE = "the client has gone"
    TIME = "its time is over"
    CANCELLED = "it was cancelled"
    STOPPING = "the server is stopping"


class Stopped(Exception):
    """Work that was ended. It isn't an error of anybody's."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Work:
    """What is done for one request: threads that do it ask it now and then whether they shall go on."""

    def __init__(self, seconds: float | None = None) -> None:
        """`seconds`: that it may take; as many as it likes, if not said."""
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._reason: Reason | None = None
        self._event = threading.Event()

    def stop(self, reason: Reason) -> None:
        """Ends it; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._event.set()

    def over(self) -> bool:
        """Whether it has to stop."""
        if self._reason is None and self._ends is not None and time.monotonic() > self._ends:
            self.stop(Reason.TIME)
        return self._reason is not None

    def check(self) -> None:
        """Raises Stopped where it has to stop."""
        if self.over():
            assert self._reason is not None
            raise Stopped(self._reason)

    def wait(self, future: Future[Result]) -> Result:
        """What a future gives, as soon as it does. Raises Stopped where it has to stop before."""
        while True:
            self.check()
            try:
                return future.result(timeout=GLANCE)
            except NotYet:
                if future.done():  # the error is its own
                    raise
