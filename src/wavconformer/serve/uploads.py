"""Bodies of requests: received into bounded temporary files that have no name, so that nothing of them can be left."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeAlias, TypeVar, get_origin

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from wavconformer.serve.admission import Admission
from wavconformer.serve.failures import GONE, Failure, invalid, refused
from wavconformer.serve.settings import MEGABYTE, Settings

Form = TypeVar("Form", bound=BaseModel)
Fields: TypeAlias = dict[str, Any]

_FIELDS = 600
_FIELD_BYTES = 256 << 10
_NAME_LENGTH = 100
_SMALL_BYTES = 1 << 20
# A sender who is slower than this, in bytes a second, after the first seconds, is given up.
_SLOWEST = 2048
_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Upload:
    """A file that was sent. name: what it is called, fit for messages."""

    file: IO[bytes]
    name: str

    @property
    def size(self) -> int:
        """Bytes of it."""
        return self.file.seek(0, os.SEEK_END)

    def descriptor(self) -> int:
        """Of the file, which is on the disk from then on, at its start."""
        if isinstance(self.file, tempfile.SpooledTemporaryFile):
            self.file.rollover()
        self.file.flush()
        self.file.seek(0)
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        return self.file.fileno()


class Uploads:
    """Receives bodies: so many at once, of so many bytes together."""

    def __init__(self, settings: Settings) -> None:
        self._senders = Admission(settings.uploads, what="uploads")
        self._room = int(settings.upload_megabytes * MEGABYTE)
        self._stall = settings.stall_seconds
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of bodies that are here."""
        return self._held

    @asynccontextmanager
    async def receive(self, request: Request, megabytes: float) -> AsyncIterator[tuple[Fields, dict[str, Upload]]]:
        """The fields and the files of a request's form, by name; the files are closed with the block.

        A field that comes as `name[]`, or more than once, is a list.

        Raises Failure where the body is too large (413), too slow (408), no such form (400), or there are too many
        at the moment (429).
        """
        most = int(megabytes * MEGABYTE)
        body = _Body(self, request, most)
        body.refuse_by_its_length()
        received: FormData | None = None
        try:
            with self._senders.place():
                received = await _received(request, body)
            yield _parted(received)
        finally:
            if received is not None:
                await _close(received, body.size)
            self._held -= body.size

    def hold(self, size: int) -> None:
        """Takes room for so many bytes more. Raises Failure where there is none."""
        if self._held + size > self._room:
            raise Failure(
                429, "There are too many uploads here. Try again in 5 s.", code="busy", headers={"Retry-After": "5"}
            )
        self._held += size

    @property
    def stall_seconds(self) -> float:
        """Without a byte, after which a sender is given up."""
        return self._stall


class _Body:
    """The body of one request as it comes in. size: bytes so far."""

    def __init__(self, uploads: Uploads, request: Request, most: int) -> None:
        self._uploads, self._request, self._most = uploads, request, most
        self._receive = request.receive
        self._begun = time.monotonic()
        self.size = 0

    def refuse_by_its_length(self) -> None:
        """Raises Failure where the header states more than may be."""
        stated = self._request.headers.get("content-length", "")
        if stated.isascii() and stated.isdigit() and int(stated) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part of it."""
        try:
            message = await asyncio.wait_for(self._receive(), self._uploads.stall_seconds)
        except asyncio.TimeoutError:
            raise self._too_slow() from None
        count = len(message.get("body", b""))
        if self.size + count > self._most:
            raise self._too_large()
        self._uploads.hold(count)
        self.size += count
        if message.get("more_body") and self.size < _SLOWEST * (time.monotonic() - self._begun - _GRACE_SECONDS):
            raise self._too_slow()
        return message

    def _too_large(self) -> Failure:
        return Failure(
            413,
            f"The body is larger than the {self._most / MEGABYTE:g} MB that are taken here.",
            code="file_too_large",
            param="file",
        )

    def _too_slow(self) -> Failure:
        return Failure(408, "The body comes too slowly.", code="too_slow", headers={"Connection": "close"})


async def _received(request: Request, body: _Body) -> FormData:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise refused("The body must be a form: Content-Type: multipart/form-data.", None, "invalid_body")
    # Its own Request, so that the body is read through our bounds.
    bounded = Request(request.scope, body.receive)
    try:
        return await bounded.form(max_files=4, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)
    except ClientDisconnect:
        raise Failure(GONE, "The client has gone.", code="client_gone") from None


async def _close(form: FormData, size: int) -> None:
    """Closes its files: small ones at once, as a thread would cost more, and others in one, as that takes long."""
    if size > _SMALL_BYTES:
        await form.close()
        return
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):
            value.file.close()


def _parted(form: FormData) -> tuple[Fields, dict[str, Upload]]:
    fields: Fields = {}
    uploads: dict[str, Upload] = {}
    for key, value in form.multi_items():
        name = key.removesuffix("[]")
        if isinstance(value, UploadFile):
            uploads[name] = Upload(value.file, _printable(value.filename))
        elif key.startswith("chunking_strategy["):
            continue  # the OpenAI API's settings of its own cutting; ours needs none
        elif key.endswith("[]") or name in fields:
            known = fields.get(name, [])
            fields[name] = [*(known if isinstance(known, list) else [known]), value]
        else:
            fields[name] = value
    return fields, uploads


def require_files(uploads: Mapping[str, Upload], names: tuple[str, ...]) -> None:
    """Raises Failure where other files were sent than these."""
    for name in uploads:
        if name not in names:
            raise refused(f"There is no file '{name}' here: send {' and '.join(names)}.", name, "unknown_parameter")
    for name in names:
        if name not in uploads:
            raise refused(f"The file '{name}' is missing.", name, "missing_required_parameter")


def checked(form: type[Form], fields: Fields) -> Form:
    """The fields as a form has them. Raises Failure where they don't fit."""
    lists = {
        name: [fields[name]]
        for name, field in form.model_fields.items()
        if name in fields and get_origin(field.annotation) is list and not isinstance(fields[name], list)
    }
    try:
        return form.model_validate({**fields, **lists})
    except ValidationError as error:
        raise invalid(error) from None


def _printable(name: str | None) -> str:
    """A client's name for a file, as far as it can be shown."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[-_NAME_LENGTH:] or "recording"
