"""A server in a thread, on a port of its own."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from wavconformer import Transcriber
from wavconformer.serve.app import create_app
from wavconformer.serve.server import Server
from wavconformer.serve.service import Service
from wavconformer.serve.settings import Settings


class Running:
    """A server that runs. `service` and `app` are what it is made of."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.app = create_app(service)
        self.server = Server(self.app, service)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        while not self.server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, timeout=60)

    def post(self, path: str, recording: Path | bytes, *, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """A form with a file, as a tool without a client library sends it."""
        content = recording.read_bytes() if isinstance(recording, Path) else recording
        name = recording.name if isinstance(recording, Path) else "sound.wav"
        return self.http.post(path, files={"file": (name, content)}, data=fields, headers=headers or {})

    def stop(self) -> None:
        """As SIGTERM stops it."""
        self.http.close()
        self.server.should_exit = True
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()


@contextmanager
def running(
    transcriber: Transcriber, folder: Path, *, service: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Running]:
    """A server with settings, for as long as the block lasts."""
    given = {"port": 0, "folder": folder, "grace_seconds": 20.0, **settings}
    server = Running(Service(transcriber, Settings(**given), **(service or {})))
    try:
        yield server
    finally:
        server.stop()


def wait_for(condition: Callable[[], Any]) -> Any:
    """What a condition gives as soon as it holds."""
    for _ in range(3000):
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it didn't come")


def wav(waveform: Any) -> bytes:
    """A waveform (S,) of float32 at 16 kHz as the bytes of a wav file."""
    data = waveform.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 16_000, 64_000, 4, 32)
    return (
        struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form + struct.pack("<4sI", b"data", len(data)) + data
    )
