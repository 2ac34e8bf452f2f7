"""Requests that one certain replica must answer, whichever replica of the ingress they came to."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from prometheus_client import Metric
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from ferserve.cluster.front import make_front
from ferserve.cluster.metrics import ClusterMetrics
from ferserve.cluster.problems import answer_problem
from ferserve.errors import NotReady
from ferserve.settings import Settings

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

PLAIN = frozenset(
    {"type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"}
    | {"root_path", "headers", "client", "server"}
)
"""What another process needs of an ASGI scope."""

logger = logging.getLogger(__name__)


class BenchmarkHost:
    """The one replica that runs benchmarks and remembers them.

    Args:
        settings: As for one process.
        versions: The sha256 of each model, by name.
    """

    def __init__(self, settings: Settings, versions: Mapping[str, str]) -> None:
        self._opening = asyncio.create_task(_open(settings, versions))

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """Serves one HTTP request; yields what the application sends."""
        app, _, _ = await asyncio.shield(self._opening)
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            if message := next(received, None):
                return message
            return await asyncio.Future()  # a client that leaves cancels the whole call

        async def serve_request() -> None:
            try:
                await app(dict(scope), receive, sent.put)
            finally:
                sent.put_nowait(None)

        serving = asyncio.create_task(serve_request())
        try:
            while (message := await sent.get()) is not None:
                yield message
            await serving
        finally:
            serving.cancel()

    async def families(self) -> list[Metric]:
        """Returns this replica's metrics."""
        _, metrics, _ = await asyncio.shield(self._opening)
        return metrics.families()

    def check_health(self) -> None:
        """Has Ray replace the replica where it could not start."""
        if self._opening.done():
            self._opening.result()


async def forward(
    handle: "DeploymentHandle[Any]", max_bytes: int, scope: Scope, receive: Receive, send: Send
) -> None:
    """Has a ``BenchmarkHost`` answer an HTTP request.

    Args:
        handle: Of its deployment.
        max_bytes: Largest body; of a larger one a byte more is sent on, which is then refused.
        scope: The request.
        receive: Gives its body.
        send: Takes the answer.
    """
    body = await _read_body(receive, max_bytes)
    plain = {key: value for key, value in scope.items() if key in PLAIN}
    answering = handle.options(stream=True).answer.remote(plain, body)
    started = False
    try:
        async for message in answering:
            await send(message)
            started = True
    except (RayError, RayServeException):
        if started:
            raise
        logger.warning("the benchmarks do not answer", exc_info=True)
        request_id = Headers(scope=scope).get("x-request-id", uuid.uuid4().hex)
        problem = NotReady("benchmarks are not available now")
        await answer_problem(problem, request_id, scope, receive, send)
    finally:
        answering.cancel()


async def _open(
    settings: Settings, versions: Mapping[str, str]
) -> tuple[FastAPI, ClusterMetrics, Any]:
    """Returns the application, its metrics, and what keeps its life cycle open."""
    app, metrics = await make_front(settings, versions)
    running = app.router.lifespan_context(app)
    await running.__aenter__()
    return app, metrics, running


async def _read_body(receive: Receive, max_bytes: int) -> bytes:
    body = bytearray()
    more = True
    while more and len(body) <= max_bytes:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body[: max_bytes + 1])
