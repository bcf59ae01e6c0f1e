"""The process that decodes the recordings of strangers: `python -m wavconformer.serve.decoder FD`.

It reads what FFmpeg makes of a file and gives it on, and holds nothing else: neither model nor keys nor network. Its
memory is bounded, it can't write files, and whoever started it ends it when it takes too long.

On the socket it gets `Asked` as JSON, and with it the file itself, open. It answers with messages, each of a letter for
its kind, its length, and its content: I what the container says, A a block of samples in float32, L what is lost, E an
error, T that it is too long, Z the end. After one of the last three it takes the next.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from wavconformer.audio import stream_audio
from wavconformer.errors import AudioError

HEADER = struct.Struct("<cI")
REQUEST_BYTES = 1 << 16
SEND_BYTES = 1 << 18  # four seconds at the models' rate


@dataclass(frozen=True)
class Asked:
    """What is to be done. name: of the file, for messages. rate: samples per second. most_seconds: of audio."""

    name: str
    rate: int
    block_seconds: float
    most_seconds: float


class TooLong(Exception):
    """More audio than was asked for."""


def main(descriptor: int, megabytes: float) -> None:
    """Decodes what comes on a socket until it is closed."""
    _limit(megabytes)
    with socket.socket(fileno=descriptor) as connection:
        while True:
            request, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 1)
            if not request:
                return
            asked = Asked(**json.loads(request))
            raw = io.FileIO(files[0])
            raw.name = asked.name
            with raw:
                _decode(raw, asked, connection)


def _limit(megabytes: float) -> None:
    """Bounds what this process may take from now on."""
    used = 0
    with contextlib.suppress(OSError):  # where there is no /proc
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 64}
    if used:
        limits[resource.RLIMIT_AS] = used + int(megabytes * (1 << 20))
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def _decode(raw: io.FileIO, asked: Asked, connection: socket.socket) -> None:
    is_file = raw.seekable()

    def send(kind: bytes, content: bytes = b"") -> None:
        messages.write(HEADER.pack(kind, len(content)) + content)
        if not is_file:  # whoever records it waits for what has come
            messages.flush()

    def tell(duration: float | None) -> None:
        """The length that the container states, where it is one that can be."""
        if duration is not None and not duration > 0:
            duration = None
        if duration is not None and duration > asked.most_seconds:
            raise TooLong
        send(b"I", json.dumps({"duration": duration}).encode())

    # Messages of a short recording go as one: each would wake who waits for it.
    with connection.makefile("wb", SEND_BYTES) as messages:
        try:
            if not is_file:  # its length isn't known, and it may be long until it begins
                tell(None)
            heard = 0.0
            for block in stream_audio(
                io.BufferedReader(raw, 1 << 16) if is_file else raw,
                sampling_rate=asked.rate,
                block_seconds=asked.block_seconds,
                on_loss=lambda message: send(b"L", message.encode()),
                on_duration=tell if is_file else None,
            ):
                heard += len(block) / asked.rate
                if heard > asked.most_seconds:
                    raise TooLong
                send(b"A", block.tobytes())
            send(b"Z")
        except TooLong:
            send(b"T")
        except AudioError as error:
            send(b"E", str(error).encode())
        except MemoryError:
            send(b"E", f"'{raw.name}': decoding it takes more memory than is allowed here.".encode())


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt):  # the server has gone
        main(int(sys.argv[1]), float(sys.argv[2]))
