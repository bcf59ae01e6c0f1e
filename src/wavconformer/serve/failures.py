"""What clients are told when something can't be done, in the shape of the OpenAI API."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from wavconformer.errors import AudioError, CheckpointError, WavConformerError
from wavconformer.serve.work import Reason, Stopped

_LOG = logging.getLogger("wavconformer.serve")

# Requests of a client who has gone are logged as nginx does it; nobody receives it.
GONE = 499


class Failure(Exception):
    """An answer other than 200. status: of HTTP. code: for programs. param: the field at fault, if one is."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """As the OpenAI API words it: {"error": {message, type, param, code}}."""
        return {"error": {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body(), self.status, self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, as an application of ASGI."""
        await self.response()(scope, receive, send)


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def refused(message: str, param: str | None, code: str = "invalid_value") -> Failure:
    """For a field that can't be used."""
    return Failure(400, message, code=code, param=param)


def not_available(what: str) -> Failure:
    """For what this server, as it was started, can't do."""
    return Failure(400, what, code="not_available")


def failure_of(error: BaseException) -> Failure:
    """What a client is told of an error. One that is no fault of theirs is logged, and they hear no more of it."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, Stopped):
        return _stopped(error.reason)
    if isinstance(error, AudioError):
        return refused(str(error), "file", "invalid_audio")
    if isinstance(error, WavConformerError) and not isinstance(error, CheckpointError):
        return refused(str(error), None)
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return Failure(error.status_code, str(error.detail), code=code, headers=error.headers)
    _LOG.error("error", exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(507, "The server's disk is full.", code="disk_full")
    return Failure(500, "Something went wrong here; the log of the server has it.", code="internal_error")


def _stopped(reason: Reason) -> Failure:
    if reason is Reason.TIME:
        return Failure(
            413, "It took longer than a request may: send it as a job (POST /v1/jobs).", code="time_limit", param="file"
        )
    if reason is Reason.GONE:
        return Failure(GONE, "The client has gone.", code="client_gone")
    return Failure(503, "The server is stopping.", code="stopping", headers={"Retry-After": "5"})


def invalid(error: ValidationError) -> Failure:
    """For a form whose fields don't fit: the first of them is named."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    if first["type"] == "missing":
        return refused(f"The field '{field}' is missing.", field, "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return refused(f"There is no field '{field}'.", field, "unknown_parameter")
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    return refused(f"{field}: {message}." if field else f"{message}.", field)


def add_handlers(app: FastAPI) -> None:
    """Every error of the application becomes such an answer."""

    async def handle(request: Request, error: Exception) -> Response:
        return failure_of(error).response()

    kinds: Sequence[type[Exception]] = (Failure, Stopped, WavConformerError, HTTPException)
    for kind in kinds:
        app.add_exception_handler(kind, handle)
