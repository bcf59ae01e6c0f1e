"""A process that runs the model, forked from this one when it has been loaded: its weights are in memory once.

Between any two products a thread of Python needs the interpreter. Whoever computes here shares it with nobody: neither
with another batch nor with the requests. And should the process be ended, for want of memory or by a library's fault,
the server goes on with a new one.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer import errors
from wavconformer.decoding.words import Word
from wavconformer.tasks.transcribe import LogProbs

Waveform = NDArray[np.float32]
Heard = LogProbs | tuple[Word, ...]
Hear = Callable[[Sequence[Waveform], Sequence[bool], str, "str | None"], list[Heard]]
"""Waveforms (S,), of which of them the words are wanted, what messages call them, and the language → log-probabilities
(T, V) of each, or its words."""

CAN_FORK = sys.platform == "linux"
"""Whether processes are to be had. Elsewhere libraries of the system aren't made to be forked."""

_LOG = logging.getLogger("wavconformer.serve")
_FIRST = 3  # descriptor after those of standard input, output and error
_LENGTH = struct.Struct("<Q")
# Seconds that it may take to a batch, far more than any does. Then it hangs, as by a lock that was held at the fork.
_PATIENCE = 300.0


class WorkerLost(Exception):
    """The process ended in the middle of a batch."""


class _There(Exception):
    """Where in the process an error came up: its text is a traceback."""


class Worker:
    """Calls a function in a process of its own, one call at a time."""

    def __init__(self, hear: Hear, threads: int, on_loss: Callable[[], None] = lambda: None) -> None:
        """threads: of the CPU that it computes with. on_loss: is told when the process has ended by itself."""
        self._hear, self._threads, self._on_loss = hear, threads, on_loss
        self._lock = threading.Lock()
        self._stopped = False
        self._process: tuple[socket.socket, int] | None = self._begun()

    @property
    def pid(self) -> int | None:
        """The process's number; None where it has ended."""
        return None if self._process is None else self._process[1]

    def __call__(
        self, waveforms: Sequence[Waveform], spelled: Sequence[bool], names: str, language: str | None
    ) -> list[Heard]:
        """What the function gives.

        Raises the package's errors as it does, and RuntimeError for others; WorkerLost where the process ends before it
        has answered; OSError where none can be started.
        """
        connection = self._running()
        try:
            _send(connection, waveforms, spelled=[*spelled], names=names, language=language)
        except OSError:  # it ended while it had nothing to do, so by no fault of theirs
            self._lose()
            connection = self._running()
            _send(connection, waveforms, spelled=[*spelled], names=names, language=language)
        try:
            told, arrays = _receive(connection)
        except (EOFError, OSError) as error:
            how = self._lose("no answer" if isinstance(error, TimeoutError) else None)
            raise WorkerLost(f"The process that runs the model has ended ({how}).") from error
        if "error" in told:
            kind = getattr(errors, told["error"], RuntimeError)
            raise kind(told["message"]) from _There(told["traceback"])
        log_probs = iter(arrays)
        return [next(log_probs) if words is None else tuple(Word(*word) for word in words) for words in told["words"]]

    def stop(self) -> None:
        """Ends the process for good, from any thread: whoever waits for its answer has WorkerLost."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _kill(self._process[1])

    def end(self) -> str:
        """Ends the process, in the middle of whatever it does, and says how it has ended."""
        with self._lock:
            if self._process is None:
                return "before"
            (connection, pid), self._process = self._process, None
            connection.close()
            _kill(pid)
            try:
                return _cause(os.waitpid(pid, 0)[1])
            except ChildProcessError:  # SIGCHLD is ignored here, as whoever started us may have had it
                return "unknown"

    def _lose(self, why: str | None = None) -> str:
        ended = self.end()
        how = why or ended
        if not self._stopped:
            _LOG.error("a process of the model has ended (%s)", how)
            self._on_loss()
        return how

    def _running(self) -> socket.socket:
        """Our end of its socket; of a new one, where there is none."""
        with self._lock:
            if self._stopped:
                raise WorkerLost("The process that runs the model was told to end.")
            if self._process is None:
                self._process = self._begun()
            return self._process[0]

    def _begun(self) -> tuple[socket.socket, int]:
        ours, theirs = socket.socketpair()
        ours.settimeout(_PATIENCE)
        # The threads that OpenMP keeps belong to the thread that first used them, and are no more after a fork: it
        # would wait for them for ever. A new thread has none.
        with theirs, ThreadPoolExecutor(1) as pool:
            try:
                return ours, pool.submit(_fork, lambda: self._serve(theirs)).result()
            except (OSError, RuntimeError) as error:  # no process; no thread
                ours.close()
                raise OSError(
                    f"No process can be started to run the model ({error}). Free memory, or raise the limit of "
                    "processes (ulimit -u; --pids-limit of a container)."
                ) from error

    def _serve(self, connection: socket.socket) -> None:  # pragma: no cover - runs in the process
        """Answers until the other end is closed."""
        import torch

        _close_all_but(connection.fileno())
        torch.set_num_threads(self._threads)
        while True:
            try:
                asked, waveforms = _receive(connection)
            except EOFError:
                return
            told: dict[str, object]
            log_probs: list[LogProbs] = []
            try:
                heard = self._hear(waveforms, asked["spelled"], asked["names"], asked["language"])
            except Exception as error:  # noqa: BLE001 - theirs who asked
                told = {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
            else:
                log_probs = [one for one in heard if isinstance(one, np.ndarray)]
                told = {"words": [None if isinstance(one, np.ndarray) else [*map(astuple, one)] for one in heard]}
            _send(connection, log_probs, **told)


def _send(connection: socket.socket, arrays: Sequence[NDArray[np.float32]], **message: object) -> None:
    content = json.dumps([message, [array.shape for array in arrays]]).encode()
    connection.sendall(_LENGTH.pack(len(content)) + content)
    for array in arrays:
        connection.sendall(np.ascontiguousarray(array, np.float32).data)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[NDArray[np.float32]]]:
    """What `_send` sent. Raises EOFError where the other end is closed."""
    length, arrays = bytearray(_LENGTH.size), []
    _fill(connection, memoryview(length))
    content = bytearray(*_LENGTH.unpack(length))
    _fill(connection, memoryview(content))
    message, shapes = json.loads(content)
    for shape in shapes:
        array = np.empty(shape, np.float32)
        _fill(connection, array.reshape(-1).view(np.uint8).data)
        arrays.append(array)
    return message, arrays


def _fill(connection: socket.socket, place: memoryview) -> None:
    """Reads as many bytes as there is place for. Raises EOFError where the other end is closed."""
    while len(place):
        count = connection.recv_into(place)
        if not count:
            raise EOFError
        place = place[count:]


def _close_all_but(descriptor: int) -> None:  # pragma: no cover - runs in the process
    """Sockets of clients, above all: they would stay open as long as we are there."""
    # Not each number that there may be: where the limit is high they are a thousand million.
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number >= _FIRST and number != descriptor:
            with suppress(OSError):  # the one by which they were listed
                os.close(number)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _cause(status: int) -> str:
    """What `os.waitpid` says of a process, in words."""
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"


def _fork(function: Callable[[], None]) -> int:
    """Calls a function in a new process, which ends with it; the process's number."""
    with warnings.catch_warnings():
        # Later Pythons warn that locks of other threads stay locked. The model's are those of threads like this one.
        warnings.simplefilter("ignore", DeprecationWarning)
        number = os.fork()
    if number:
        return number
    status = 1
    try:  # pragma: no cover - runs in the process
        gc.freeze()  # what is there is left alone, and so stays common
        # Ctrl-C and SIGTERM are for the server, which ends us when the requests are done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        function()
        status = 0
    finally:
        os._exit(status)
