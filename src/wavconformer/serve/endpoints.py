"""The tasks and the models as endpoints."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from wavconformer.decoding.transcript import Segment, Transcript
from wavconformer.serve.catalogue import TASKS
from wavconformer.serve.failures import Failure, failure_of
from wavconformer.serve.guard import note
from wavconformer.serve.service import Service, Visit
from wavconformer.serve.task import JSON, Task, TaskForm, check_model
from wavconformer.serve.transcriptions import TRANSCRIPTIONS, TranscriptionForm, event, listen
from wavconformer.serve.uploads import Upload, checked, require_files
from wavconformer.serve.work import Work

router = APIRouter()


def service_of(request: Request) -> Service:
    """The application's service. Raises Failure (503) where it is about to end."""
    service: Service = request.app.state.service
    if service.stopping:
        raise Failure(503, "The server is stopping.", code="stopping", headers={"Retry-After": "5"})
    return service


async def _answer(task: Task[Any], request: Request) -> Response:
    service = service_of(request)
    service.admission.check()  # before anything is sent
    async with AsyncExitStack() as stack:
        receiving = service.uploads.receive(request, service.settings.megabytes)
        fields, uploads = await stack.enter_async_context(receiving)
        form = checked(task.form, fields)
        require_files(uploads, task.files)
        check_model(service.settings, form.model)
        task.require(service)
        if isinstance(form, TranscriptionForm) and form.stream:
            return await _streamed(service, request, form, uploads, stack)
        noted: dict[str, object] = {}
        try:
            answer = await service.perform(request, lambda work: task.run(_visit(service, work, uploads, noted), form))
        finally:
            note(request.scope, **noted)
        return Response(answer.body, media_type=answer.media_type)


def _visit(service: Service, work: Work, uploads: dict[str, Upload], noted: dict[str, object]) -> Visit:
    return Visit(service, work, uploads, service.settings.minutes * 60, noted=noted)


async def _streamed(
    service: Service, request: Request, form: TranscriptionForm, uploads: dict[str, Upload], stack: AsyncExitStack
) -> Response:
    """The stream, once there is something to send: until then an error has its status."""
    noted: dict[str, object] = {}

    def transcribe(work: Work, tell: Callable[[Segment | Transcript], None]) -> None:
        tell(listen(_visit(service, work, uploads, noted), form, tell))

    found: AsyncIterator[Segment | Transcript] = service.stream(request, transcribe)
    await stack.enter_async_context(aclosing(found))  # type: ignore[type-var]
    first = await anext(found)
    note(request.scope, streamed=True)
    stack.callback(lambda: note(request.scope, **noted))
    return EventStream(_events(first, found, logprobs=bool(form.include)), stack.pop_all())


async def _events(
    first: Segment | Transcript, found: AsyncIterator[Segment | Transcript], *, logprobs: bool
) -> AsyncIterator[dict[str, Any]]:
    yield event(first, first=True, logprobs=logprobs)
    try:
        async for thing in found:
            yield event(thing, first=False, logprobs=logprobs)
    except Exception as error:  # noqa: BLE001 - the status has been sent: the stream says it
        yield failure_of(error).body()


class EventStream(Response):
    """Server-sent events (WHATWG HTML, section 9.2). What they come from is closed at the end, whatever ends it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[dict[str, Any]], stack: AsyncExitStack) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["X-Accel-Buffering"] = "no"  # proxies shall pass each event on
        self._events, self._stack = events, stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them."""
        async with self._stack:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for content in self._events:
                body = f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


@router.get("/v1/models", summary="The models that are here.", tags=["models"])
async def models(request: Request) -> JSONResponse:
    """As the OpenAI API has them; of ours besides what they can do."""
    service = service_of(request)
    return JSONResponse({"object": "list", "data": [_model(service, name) for name in service.settings.names]})


@router.get(
    "/v1/models/{model:path}", summary="One model.", tags=["models"], responses={404: {"description": "No such."}}
)
async def model(request: Request, model: str) -> JSONResponse:
    """As in the list."""
    service = service_of(request)
    check_model(service.settings, model)
    return JSONResponse(_model(service, model))


def _model(service: Service, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "wavconformer",
        "tasks": [task.name for task in TASKS.values() if task.why_not(service) is None],
        "languages": list(service.batcher.languages),
        "diarize": service.models.why_not("diarize") is None,
    }


def form_schema(form: type[TaskForm], files: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """A form, with its files, as the OpenAPI description has it."""
    schema = form.model_json_schema()
    schema["properties"] = {
        **{name: {"type": "string", "format": "binary", "description": "A recording."} for name in files},
        **more,
        **schema["properties"],
    }
    schema["required"] = [*files, *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS = {
    400: "A field or a file can't be used.",
    401: "The API key is missing or wrong.",
    404: "No such model.",
    408: "The body comes too slowly.",
    413: "Too large, too long, or it takes too long.",
    429: "No place at the moment: see Retry-After.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of the answers with these statuses."""
    return {
        status: {"description": _ERRORS[status], "content": {JSON: {"schema": ERROR_SCHEMA}}} for status in statuses
    }


def _add(task: Task[Any]) -> None:
    async def endpoint(request: Request) -> Response:
        return await _answer(task, request)

    types: dict[str, Any] = {JSON: {}}
    if task is TRANSCRIPTIONS:
        types |= {"text/plain": {}, "application/x-subrip": {}, "text/vtt": {}, "text/event-stream": {}}
    router.add_api_route(
        task.address,
        endpoint,
        methods=["POST"],
        name=task.name,
        summary=task.summary,
        tags=["tasks"],
        response_class=Response,
        responses={200: {"description": "Done.", "content": types}, **errors(400, 401, 404, 408, 413, 429)},
        openapi_extra=form_schema(task.form, task.files),
    )


for _task in TASKS.values():
    _add(_task)
