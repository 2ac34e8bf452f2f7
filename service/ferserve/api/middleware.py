"""What every request gets: an id, security headers, a log line, and an answer whatever happens."""

import asyncio
import logging
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ferserve.api.problems import handle
from ferserve.api.security import Guard
from ferserve.errors import NotReady
from ferserve.logs import REQUEST_ID
from ferserve.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may send as ``X-Request-ID``: nothing that could forge a log line."""

SECURITY_HEADERS = {
    # The browser itself then enforces that no page of ours loads anything from elsewhere: ReDoc,
    # for one, has a logo on its maker's server. Its search runs in a worker made from a blob.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

CLIENT_LEFT = 499
"""The code, for metrics only, of requests that nobody waited for; nginx's number."""

FAILED_STREAM = 1011
"""The close code of a stream that a fault of ours ended (RFC 6455, section 7.4.1)."""

DRAIN_BYTES = 64 * 1024 * 1024
"""Most bytes of a refused body that are read before its connection is closed."""

DRAIN_SECONDS = 15
"""Longest time for them."""

logger = logging.getLogger(__name__)


class AnswerFaults:
    """Innermost middleware: answers ``HEAD`` as ``GET``, and with a problem where no handler did.

    Runs inside the CORS middleware, so that error responses carry CORS headers too. The guard is
    asked about each head; streams ask it themselves.
    """

    def __init__(self, app: ASGIApp, guard: Guard | None = None) -> None:
        self.app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] == "HEAD":

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body"})  # a stream of events would go on

            got = {**scope, "method": "GET"}
            await self._answer(got, receive, send_head)
            scope["route"] = got.get("route")
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = False

        async def send_noticed(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            if self._guard:
                acts = scope["method"] not in ("GET", "OPTIONS")
                self._guard.check_head(Headers(scope=scope), acts=acts)
            await self.app(scope, receive, send_noticed)
        except ClientDisconnect:
            pass  # nobody is left to answer
        except (Exception, asyncio.CancelledError) as error:
            fault: BaseException = error
            if isinstance(error, asyncio.CancelledError) and scope["app"].state.recognizer.draining:
                fault = NotReady("the service is stopped")  # the server waits no longer
            if answering or not isinstance(fault, Exception):
                raise
            response = await handle(Request(scope), fault)
            await response(scope, receive, send)


class RequestContext:
    """Gives each request its id, headers, log line and count.

    Plain ASGI, so that streams and disconnects pass through untouched. While ``is_draining`` says
    so, clients are told to open their next connection elsewhere.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, is_draining: Callable[[], bool]) -> None:
        self.app = app
        self._metrics = metrics
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if SANE_REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, owner=None)
        scope["path"] = _whole_path(scope["path"], scope.get("root_path", ""))
        token = REQUEST_ID.set(request_id)
        try:
            if scope["type"] == "http":
                await self._answer(request_id, scope, receive, send)
            else:
                await self._stream(request_id, scope, receive, send)
        finally:
            REQUEST_ID.reset(token)

    async def _answer(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)  # a page may have a stricter policy
                if self._is_draining():
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            seconds = perf_counter() - started
            route = getattr(scope.get("route"), "path", None)
            self._metrics.request_done(scope["method"], route, status or CLIENT_LEFT, seconds)
            _log(scope["method"], scope, status or "client left", seconds)

    async def _stream(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a WebSocket; what ended it is its close code."""
        started = perf_counter()
        accepted = False
        code: int | str = "client left"

        async def send_with_id(message: Message) -> None:
            nonlocal accepted, code
            if message["type"] == "websocket.accept":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                accepted = True
            elif message["type"] == "websocket.close":
                code = message.get("code", 1000) if accepted else 403  # as servers answer then
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except (OSError, WebSocketDisconnect):
            pass  # the client left in the middle of the handshake
        except Exception:
            logger.exception("a stream failed")
            if accepted:
                await send_with_id({"type": "websocket.close", "code": FAILED_STREAM})
        finally:
            _log("WS", scope, code, perf_counter() - started)


class DrainBody:
    """Outermost middleware: a connection is closed only when the request's body has been read.

    Closing it earlier resets it, and a client that writes its whole request before it reads, such
    as ``urllib``, never sees the answer. Where the connection stays open, the server drains it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        closes = scope.get("http_version") == "1.0" or _says_close(scope["headers"])
        unread, ended = True, False

        async def receive_noticed() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def send_without_end(message: Message) -> None:
            nonlocal closes, ended
            if message["type"] == "http.response.start":
                closes = closes or _says_close(message.get("headers", ()))
            elif closes and unread and not message.get("more_body", False):
                ended, message = True, {**message, "more_body": True}
            await send(message)

        await self.app(scope, receive_noticed, send_without_end)
        if ended:
            left = DRAIN_BYTES
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    while unread and left > 0:
                        left -= len((await receive_noticed()).get("body", b""))
            await send({"type": "http.response.body"})


def _says_close(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"connection" and b"close" in value.lower() for name, value in headers
    )


def _whole_path(path: str, prefix: str) -> str:
    """Puts back the prefix that a proxy took away, and takes away a slash at the end."""
    if not f"{path}/".startswith(f"{prefix}/"):
        path = prefix + path
    path = path.removesuffix("/")
    return f"{path}/" if path == prefix else path


def _log(method: str, scope: Scope, outcome: int | str, seconds: float) -> None:
    # Neither the query nor the address: a log should not tell who was looked at.
    path = quote(scope["path"])  # a line break in it forges no log line
    logger.info("%s %s %s %.1f ms", method, path, outcome, 1000 * seconds)
