"""Processes that decode, kept warm: each has one recording at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import AudioError
from wavconformer.serve.decoder import HEADER, SEND_BYTES, Asked, TooLong
from wavconformer.serve.failures import Failure
from wavconformer.serve.work import GLANCE, Work

# Blocks are so long: small enough that a message is small, too.
BLOCK_SECONDS = 2.0
_LARGEST_MESSAGE = 16 << 20
# A process is replaced after so many recordings, lest what FFmpeg leaks adds up. To start one costs as much as decoding
# some two hundred.
_RECORDINGS = 5_000
# So many are kept for those to come; more were wanted at once.
_IDLE = 8
# What of the environment it gets to see.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


class Decoding:
    """A recording that is being decoded. duration: seconds that it states, or None. problems: what of it is lost."""

    def __init__(self, blocks: Iterator[NDArray[np.float32]], duration: float | None, problems: list[str]) -> None:
        self.blocks, self.duration, self.problems = blocks, duration, problems


class Decoders:
    """Gives recordings to processes of `decoder.py`."""

    def __init__(self, megabytes: float, *, on_loss: Callable[[], None] = lambda: None) -> None:
        """megabytes: of memory that decoding may take. on_loss: is told of each process that had to be ended."""
        self._megabytes = megabytes
        self._on_loss = on_loss
        self._idle: list[_Process] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def decode(
        self,
        descriptor: int,
        name: str,
        rate: int,
        work: Work,
        *,
        most_seconds: float,
        stall_seconds: float | None = 30.0,
        block_seconds: float = BLOCK_SECONDS,
    ) -> Iterator[Decoding]:
        """Decodes an open file, from its start, as blocks of mono samples (S,) at `rate`.

        name: what messages call it. most_seconds: of audio. stall_seconds: after which a decoder that gives nothing is
            ended; None for a file that comes as it is recorded.

        Raises AudioError where it can't be decoded, Failure where it is too long, Stopped where the work has to stop.
        """
        with ExitStack() as stack:
            process = self._take()
            stack.callback(self._give_back, process)
            process.ask(descriptor, Asked(name, rate, block_seconds, most_seconds))
            messages = process.messages(work, stall_seconds, name)
            problems: list[str] = []
            try:
                duration = _first(messages)
                # Others needn't wait for the process until what it gave has been heard.
                yield Decoding(_blocks(messages, problems, stack.close), duration, problems)
            except TooLong:
                raise _too_long(name, most_seconds) from None

    def close(self) -> None:
        """Ends all that rest, and each of the others when it has done its recording."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def warm(self, count: int) -> None:
        """Starts processes beforehand."""
        for _ in range(count):
            self._give_back(_Process(self._megabytes))

    def _take(self) -> _Process:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
                process.end()
        return _Process(self._megabytes)

    def _give_back(self, process: _Process) -> None:
        """Keeps a process for the next recording, or ends it."""
        with self._lock:
            is_fit = process.rests and process.recordings < _RECORDINGS
            if is_fit and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(process)
                return
        process.end()
        if not process.rests:
            self._on_loss()


class _Process:
    """A decoding process and our end of its socket. rests: whether it waits for the next recording."""

    def __init__(self, megabytes: float) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wavconformer.serve.decoder", str(theirs.fileno()), str(megabytes)],
                pass_fds=(theirs.fileno(),),
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which ends it
            )
        self._socket = ours
        self._socket.settimeout(GLANCE)
        self._received = bytearray()  # of which nothing has been read yet
        self.rests = True
        self.recordings = 0

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, descriptor: int, asked: Asked) -> None:
        """Gives it a file."""
        self.rests = False
        self.recordings += 1
        try:
            socket.send_fds(self._socket, [json.dumps(asdict(asked)).encode()], [descriptor])
        except OSError as error:
            raise _died(asked.name) from error

    def messages(
        self, work: Work, stall_seconds: float | None, name: str
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """What it says, to the end of the recording."""
        while True:
            kind, length = HEADER.unpack(self._read(HEADER.size, work, stall_seconds, name))
            if length > _LARGEST_MESSAGE:
                raise _died(name)
            content = self._read(length, work, stall_seconds, name)
            if kind == b"E":
                self.rests = True
                raise AudioError(content.decode(errors="replace"))
            if kind == b"T":
                self.rests = True
                raise TooLong
            if kind == b"Z":
                self.rests = True
                return
            yield kind, content

    def _read(self, size: int, work: Work, stall_seconds: float | None, name: str) -> bytes:
        waited = 0.0
        while len(self._received) < size:
            work.check()
            try:
                more = self._socket.recv(SEND_BYTES)
            except TimeoutError:
                waited += GLANCE
                if stall_seconds is not None and waited > stall_seconds:
                    raise AudioError(
                        f"'{name}': decoding it takes too long. Convert it to wav or flac first."
                    ) from None
                continue
            except OSError as error:
                raise _died(name) from error
            if not more:
                raise _died(name)
            self._received += more
            waited = 0.0
        content = bytes(memoryview(self._received)[:size])
        del self._received[:size]
        return content

    def end(self) -> None:
        """Ends it at once."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _died(name: str) -> AudioError:
    return AudioError(f"'{name}': decoding it failed: it is damaged, or needs more memory than is allowed here.")


def _first(messages: Iterator[tuple[bytes, bytes]]) -> float | None:
    kind, content = next(messages)
    assert kind == b"I"
    duration: float | None = json.loads(content)["duration"]
    return duration


def _blocks(
    messages: Iterator[tuple[bytes, bytes]], problems: list[str], done: Callable[[], None]
) -> Generator[NDArray[np.float32], None, None]:
    for kind, content in messages:
        if kind == b"L":
            problems.append(content.decode(errors="replace"))
        else:
            yield np.frombuffer(content, np.float32)
    done()


def _too_long(name: str, most_seconds: float) -> Failure:
    return Failure(
        413,
        f"'{name}' is longer than the {most_seconds / 60:g} minutes that are taken here.",
        code="audio_too_long",
        param="file",
    )
