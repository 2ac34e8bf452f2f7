"""What goes into Ray's HTTP proxy, so that its own errors are the API's problems too.

Every node runs such a proxy; where ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names
``ferserve.cluster.proxy:middlewares`` it asks here what to run around itself.
"""

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferserve.api.middleware import SANE_REQUEST_ID
from ferserve.cluster.problems import answer_problem
from ferserve.errors import NotReady

OURS = "x-content-type-options"
"""A header that the application puts into every answer, and Ray into none."""

RAYS_PATHS = "/-/"
"""Health and routes of the proxy itself begin so."""


class ProblemsForErrors:
    """Answers in Ray's place where no replica did.

    Args:
        app: The proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["path"].startswith(RAYS_PATHS):
            await self._app(scope, receive, send)
            return
        request_id = _ensure_sane_request_id(scope)
        status: int | None = None
        passes = False

        async def send_ours(message: Message) -> None:
            nonlocal status, passes
            if message["type"] == "http.response.start":
                status = message["status"]
                passes = OURS in Headers(raw=message["headers"])
            if passes:
                await send(message)

        await self._app(scope, receive, send_ours)
        if not passes:  # Ray's own words, or none at all where a replica died
            await _answer(status, request_id, scope, receive, send)


def middlewares() -> list[Middleware]:
    """Returns what Ray's proxy is to run around itself."""
    return [Middleware(ProblemsForErrors)]


async def _answer(
    status: int | None, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    if status == 404:  # the application is not there (yet); its own 404s are not Ray's
        problem = NotReady("the service is starting, or stopped")
    else:
        problem = NotReady("the replica that worked on the request was lost, or none is free")
    problem.headers = {**problem.headers, "X-Request-ID": request_id}
    await answer_problem(problem, request_id, scope, receive, send)


def _ensure_sane_request_id(scope: Scope) -> str:
    headers = MutableHeaders(scope=scope)
    request_id = headers.get("x-request-id", "")
    if not SANE_REQUEST_ID.fullmatch(request_id):
        headers["x-request-id"] = request_id = uuid.uuid4().hex
    return request_id
