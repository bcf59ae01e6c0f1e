"""Runs the application: listens, and when it is told to stop, lets what runs come to its end."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from wavconformer.serve.logs import log, set_up
from wavconformer.serve.service import Service

# Seconds that a connection may be without a request that is whole.
IDLE_SECONDS = 15.0
_CONNECTIONS = 1000
_MESSAGE_BYTES = 1 << 20
# Seconds before the end of the grace in which what still runs is told to stop, so that it can still answer.
_LAST_WORDS = 2.0
_LOOK = 0.05
# Seconds after which a Python thread lets others go on. The threads that compute need the interpreter for a moment
# between any two products: by default they would wait 5 ms for it whenever another is busy.
_TURN = 0.0005


class _Protocol(H11Protocol):
    """Closes connections on which no request comes: uvicorn itself waits for the first for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets it only where it knows the protocol of the listening socket. Without it the second part of an
        # answer waits for the client to confirm the first, which on a connection that is kept takes 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._quiet_since = time.monotonic()
        self._timer = self.loop.call_later(IDLE_SECONDS, self._look)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._quiet_since = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_ours = self.transport.get_protocol() is self  # not that of a web socket
        busy = self.cycle is not None and not self.cycle.response_complete
        if is_ours and not busy and time.monotonic() - self._quiet_since >= IDLE_SECONDS:
            self.transport.close()
        elif is_ours:
            self._timer = self.loop.call_later(IDLE_SECONDS, self._look)


class Server(uvicorn.Server):
    """uvicorn. When it is told to stop it parks the jobs at once; requests it ends shortly before its patience does."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=_Protocol,
                ws_max_size=_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # a small message could become a large one
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS,
            )
        )
        self._app, self._service = app, service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says where it listens, once it does."""
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            log("listening", host=self.config.host, port=port, model=self._service.settings.names[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets what runs finish, or parks it."""
        service, streams = self._service, self._service.streams
        log("stopping", requests=len(service.admission), streams=0 if streams is None else len(streams))
        service.finish()
        parking = asyncio.create_task(asyncio.to_thread(self._app.state.runner.park))
        patience = max(0.0, service.settings.grace_seconds - _LAST_WORDS)
        enough = asyncio.get_running_loop().call_later(patience, service.stop)
        begun = time.monotonic()
        # uvicorn closes web sockets at once: so they are given the time to end by themselves before.
        while streams and not self.force_exit and time.monotonic() - begun < patience + _LAST_WORDS / 2:
            await asyncio.sleep(_LOOK)
        left = service.settings.grace_seconds - (time.monotonic() - begun)
        self.config.timeout_graceful_shutdown = max(1, round(left))
        await super().shutdown(sockets)
        enough.cancel()
        await parking
        log("stopped")


def serve(app: FastAPI, service: Service) -> None:
    """Runs it until SIGTERM or Ctrl-C.

    Raises OSError where the address can't be had.
    """
    sys.setswitchinterval(_TURN)
    gc.freeze()  # what has been loaded stays: looking through it takes a tenth of a second each time
    with _listening(service.settings.host, service.settings.port) as listening:
        set_up()
        Server(app, service).run([listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(f"At {host}, port {port}, the server can't listen: {error.strerror or error}.") from error
