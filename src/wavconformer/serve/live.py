"""Live captions: sound in, words out, over a web socket, while somebody speaks.

The client opens `WS /v1/live` and sends a first message of JSON, `LiveForm`; then the sound, in binary messages; at
the end `{"type": "end"}`. The server answers in JSON, each message with its "type": `ready`; those of
`wavconformer.tasks.events`, which are `partial`, words that may still change, `final`, words that won't, and `end`, of
an utterance; `done` when all has been heard, or, with a "reason", all that came before the server was told to stop;
`error`, in the shape of the API's errors.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, WebSocket
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from wavconformer.serve.failures import Failure, failure_of, invalid, not_available
from wavconformer.serve.guard import Keys, note
from wavconformer.serve.service import Service, request_transcriber
from wavconformer.serve.task import check_model
from wavconformer.serve.transcriptions import hotword_weights
from wavconformer.serve.work import GLANCE, Reason, Work
from wavconformer.tasks.streaming import StreamingTranscriber

router = APIRouter()

# What a decoder gives of a stream at a time, in seconds.
_BLOCK_SECONDS = 0.1
_FIRST_SECONDS = 10.0  # that the first message may take
_SILENT_SECONDS = 60.0  # without a message, after which nobody is thought to be there
_TYPES: dict[str, np.dtype[Any]] = {"pcm_s16le": np.dtype("<i2"), "pcm_f32le": np.dtype("<f4")}
# Events that wait for a client who doesn't read them.
_WAITING = 1000

# Of RFC 6455, section 7.4, and its registry.
_NORMAL, _POLICY_VIOLATION, _TOO_BIG, _INTERNAL, _RESTARTS, _TRY_LATER = 1000, 1008, 1009, 1011, 1012, 1013


class LiveForm(BaseModel):
    """The first message. format: of the sound; "opus" is WebM or Ogg, as a browser's MediaRecorder makes it.

    sample_rate: of PCM, which has one channel. api_key: where the opening of the socket couldn't bring one.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["start"] = "start"
    format: Literal["pcm_s16le", "pcm_f32le", "opus"] = "pcm_s16le"
    sample_rate: int = Field(16_000, ge=8_000, le=192_000)
    model: str | None = Field(None, max_length=200)
    target_lang: str | None = Field(None, max_length=50)
    hotwords: list[str] = Field([], max_length=100)
    api_key: str | None = Field(None, max_length=500)


@router.websocket("/v1/live")
async def live(socket: WebSocket) -> None:
    """One stream, from its first message to its end."""
    await socket.accept()
    try:
        await _serve(socket)
    except WebSocketDisconnect:
        return
    except Exception as error:  # noqa: BLE001 - the client is told, and what is no fault of theirs is logged
        failure = failure_of(error)
        with suppress(RuntimeError, WebSocketDisconnect):  # it has gone meanwhile
            await socket.send_json({"type": "error", **failure.body()})
            await socket.close(_code(failure), failure.message.encode()[:120].decode(errors="ignore"))


def _code(failure: Failure) -> int:
    if failure.status == 413:
        return _TOO_BIG
    if failure.status in (429, 503):
        return _TRY_LATER
    return _POLICY_VIOLATION if failure.status < 500 else _INTERNAL


async def _serve(client: WebSocket) -> None:
    service: Service = client.app.state.service
    if service.stopping:
        raise Failure(503, "The server is stopping.", code="stopping")
    form = await _first_message(client, client.app.state.keys)
    check_model(service.settings, form.model)
    if service.streams is None:
        raise not_available("This server takes no live streams.")
    with service.streams.place(), service.working(None) as work:
        request_transcriber(service, work, form.target_lang, hotword_weights(form.hotwords))  # or an error at once
        await client.send_json({"type": "ready", "model": service.settings.names[0]})
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_WAITING)
            loop = asyncio.get_running_loop()

            def put(event: dict[str, Any] | None) -> None:
                try:
                    told.put_nowait(event)
                except asyncio.QueueFull:
                    work.stop(Reason.GONE)

            def tell(event: dict[str, Any] | None) -> None:
                loop.call_soon_threadsafe(put, event)

            running = service.run(lambda: _listen(service, form, work, theirs, tell))
            running.add_done_callback(lambda _: tell(None))
            sending = asyncio.create_task(_send(client, told))
            receiving = asyncio.create_task(_receive(client, ours))
            stopping = asyncio.create_task(service.until_stopping())
            try:
                # The sound may end before its words; and the words, by an error, before the sound.
                await asyncio.wait({sending, receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    receiving.result()
                is_cut = not (receiving.done() or sending.done())
                if is_cut:
                    await _ended(receiving)
                    ours.shutdown(socket.SHUT_WR)  # what has been heard until now still becomes words
                await sending
                seconds = await asyncio.wrap_future(running)
            finally:
                work.stop(Reason.GONE)
                await _ended(receiving, sending, stopping)
                await asyncio.gather(asyncio.wrap_future(running), return_exceptions=True)
        note(client.scope, audio_seconds=round(seconds, 3))
        done = {"type": "done", "duration": round(seconds, 3)}
        await client.send_json({**done, "reason": "stopping"} if is_cut else done)
        await client.close(_RESTARTS if is_cut else _NORMAL)


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Ends tasks, and waits until they have."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _first_message(client: WebSocket, keys: Keys) -> LiveForm:
    try:
        text = await asyncio.wait_for(client.receive_text(), _FIRST_SECONDS)
        form = LiveForm.model_validate_json(text)
    except (asyncio.TimeoutError, KeyError):
        raise Failure(400, "The first message must be JSON, such as {}.", code="invalid_body") from None
    except ValidationError as error:
        raise invalid(error) from None
    if not keys.allow(client.headers) and (form.api_key or "") not in keys:
        raise Failure(401, "The API key is missing or wrong: send it as api_key in the first message.",
                      code="invalid_api_key")  # fmt: skip
    return form


async def _receive(client: WebSocket, ours: socket.socket) -> None:
    """Passes the sound on, no faster than it is heard, until the client says that it has ended."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            message = await asyncio.wait_for(client.receive(), _SILENT_SECONDS)
        except asyncio.TimeoutError:
            raise Failure(408, "Nothing has come for a minute.", code="too_slow") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        if message.get("bytes") is not None:
            await loop.sock_sendall(ours, message["bytes"])
        elif _type(message.get("text") or "") == "end":
            ours.shutdown(socket.SHUT_WR)
            return
        else:
            raise Failure(400, 'A message is sound, or {"type": "end"}.', code="invalid_body")


def _type(text: str) -> object:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content.get("type") if isinstance(content, dict) else None


async def _send(client: WebSocket, told: asyncio.Queue[dict[str, Any] | None]) -> None:
    while (event := await told.get()) is not None:
        await client.send_json(event)


def _listen(
    service: Service, form: LiveForm, work: Work, sound: socket.socket, tell: Callable[[dict[str, Any]], None]
) -> float:
    """Hears the sound to its end, in a thread; the seconds that it was."""
    transcriber = request_transcriber(service, work, form.target_lang, hotword_weights(form.hotwords))
    is_pcm = form.format in _TYPES
    rate = form.sample_rate if is_pcm else transcriber.sampling_rate
    most = service.settings.stream_minutes * 60
    stream = StreamingTranscriber(transcriber, sampling_rate=rate)

    def follow(chunks: Iterator[NDArray[Any]]) -> None:
        for chunk in chunks:
            for event in stream.feed(chunk):
                tell(event.as_dict())
            if stream.heard > most:
                raise Failure(413, f"The stream is longer than {most / 60:g} minutes.", code="audio_too_long")

    if is_pcm:
        follow(_samples(sound, _TYPES[form.format], work))
    else:
        bounds: dict[str, Any] = {"most_seconds": most, "stall_seconds": None, "block_seconds": _BLOCK_SECONDS}
        with service.decoders.decode(sound.fileno(), "the stream", rate, work, **bounds) as decoding:
            follow(decoding.blocks)
    for event in stream.close():
        tell(event.as_dict())
    return stream.heard


def _samples(sound: socket.socket, kind: np.dtype[Any], work: Work) -> Iterator[NDArray[Any]]:
    """The samples (S,) of raw PCM as they come."""
    sound.settimeout(GLANCE)
    rest = b""
    while True:
        work.check()
        try:
            received = sound.recv(1 << 16)
        except TimeoutError:
            continue
        if not received:
            return
        data = rest + received
        whole = len(data) - len(data) % kind.itemsize
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], kind)
