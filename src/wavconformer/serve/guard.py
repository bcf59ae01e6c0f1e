"""The door: who may come in, what is written down of each visit, and what each answer carries with it.

These are plain layers of ASGI, for requests and for web sockets. They act before anything of a body is read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wavconformer.serve.failures import Failure, failure_of
from wavconformer.serve.logs import log
from wavconformer.serve.metrics import Metrics
from wavconformer.serve.settings import LOOPBACK, Settings

# What everybody may ask, who watches whether the server lives.
OPEN = ("/healthz", "/readyz")
# Of these parts of the site no answer says anything of anybody; a page in a browser can't send a key with them.
_PUBLIC = ("/static/", "/docs", "/openapi.json", "/favicon.ico")
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "WS")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}


class Keys:
    """The API's keys. Of each only a digest is kept, and all are compared, each in constant time."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        """Whether one is needed."""
        return bool(self._digests)

    def __contains__(self, key: object) -> bool:
        """Whether a key is one of them."""
        given = _digest(str(key))
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0

    def allow(self, headers: Headers) -> bool:
        """Whether a request brings one, as `Authorization: Bearer …`, or none is needed."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return not self or (scheme.lower() == "bearer" and key.strip() in self)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


class Guard:
    """Lets in who names this machine by one of its names, comes from no foreign page, and has a key."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self._app, self._keys = app, keys
        # A foreign name that is made to point here would let its page read our answers (DNS rebinding).
        self._any_host = "*" in settings.hosts or (not settings.is_local and not settings.hosts)
        self._hosts = {*LOOPBACK, settings.host, *settings.hosts}
        self._origins = set(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await refusal(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message[:120]})

    def _refusal(self, scope: Scope) -> Failure | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._any_host and _hostname(host) not in self._hosts:
            return Failure(421, "This server doesn't go by that name (--allow-host).", code="unknown_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != host:
            return Failure(403, "Pages of other sites may not ask this server (--allow-origin).", code="foreign_origin")
        path = scope["path"]
        # A browser can't send a key with the opening of a web socket: the first message of a live stream has it.
        is_free = path in OPEN or path == "/" or path.startswith(_PUBLIC) or scope["type"] == "websocket"
        if is_free or scope.get("method") == "OPTIONS" or self._keys.allow(headers):
            return None
        return Failure(
            401,
            "The API key is missing or wrong: send one as 'Authorization: Bearer KEY'.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _hostname(host: str) -> str:
    """Of a Host header, without the port; empty for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Record:
    """Gives each request an id, counts and logs it, and puts the security headers on its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = name
        begun = time.monotonic()
        status, begun_answer = (500 if scope["type"] == "http" else 101), False

        async def answer(message: Message) -> None:
            nonlocal status, begun_answer
            if message["type"] == "http.response.start":
                status, begun_answer = message["status"], True
                _add_headers(MutableHeaders(scope=message), name, scope["path"])
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            failure = failure_of(error)
            if begun_answer or scope["type"] != "http":
                raise
            await failure(scope, receive, answer)
        finally:
            took = time.monotonic() - begun
            route = getattr(scope.get("route"), "path", "other")
            method = scope.get("method", "WS")
            # Anybody may invent methods; each label that there was stays in memory.
            known = method if method in _METHODS else "other"
            self._metrics.requests.labels(route, known, str(status)).inc()
            self._metrics.seconds.labels(route).observe(took)
            noted = scope["state"].get("noted", {})
            log("request", request_id=name, method=method, route=route, status=status, seconds=round(took, 4), **noted)


def note(scope: Scope, **fields: object) -> None:
    """Adds to what the log will say of a request."""
    scope["state"].setdefault("noted", {}).update(fields)


def _add_headers(headers: MutableHeaders, request_id: str, path: str) -> None:
    headers["X-Request-ID"] = request_id
    is_page = path == "/" or path.startswith(_PUBLIC)
    headers["Content-Security-Policy"] = PAGE_POLICY if is_page else API_POLICY
    # The parts of the page belong together: none may be of an older version than the others.
    headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")
    for key, value in _HEADERS.items():
        headers.setdefault(key, value)
