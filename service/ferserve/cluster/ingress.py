"""The ingress: the application, and what it needs beside others of its kind."""

import asyncio
import contextlib
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferserve.cluster.forwarding import forward
from ferserve.cluster.front import make_front, model_deployment
from ferserve.cluster.metrics import ClusterMetrics
from ferserve.settings import Settings

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

INGRESS = "ingress"
BENCHMARKS = "benchmarks"

METRICS_SECONDS = 2.0
"""Time that other processes have to show their metrics; Prometheus waits for ten by default."""

METRICS_LIFE = 1.0
"""Seconds for which they are shown to others, too."""


class IngressApp:
    """The ASGI application of an ingress replica.

    Args:
        settings: As for one process.
        versions: The sha256 of each model, by name.
        lone_benchmarks: Whether benchmarks have a deployment of their own: an ingress replica
            knows nothing of the jobs of another.
    """

    def __init__(
        self, settings: Settings, versions: Mapping[str, str], *, lone_benchmarks: bool
    ) -> None:
        self._settings = settings
        self._versions = versions
        self._lone_benchmarks = lone_benchmarks
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._metrics_until = 0.0
        self._app: ASGIApp | None = None
        self._metrics: ClusterMetrics | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or the life cycle, which comes first."""
        if scope["type"] == "lifespan":
            await self._open()
        assert self._app is not None  # noqa: S101 - for mypy
        path = scope.get("path", "")
        if path == "/metrics":
            await self._gather_metrics()
        send = _without_request_id(send)
        if self._lone_benchmarks and path.startswith("/v1/benchmark"):
            limit = self._settings.benchmark_max_upload_bytes
            await forward(self._handles[BENCHMARKS], limit, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def families(self) -> list[Metric]:
        """Returns this process' metrics."""
        return self._metrics.families() if self._metrics else []

    async def _open(self) -> None:
        names = [INGRESS, *map(model_deployment, self._versions)]
        if self._lone_benchmarks:
            names.append(BENCHMARKS)
        self._handles = {name: serve.get_deployment_handle(name) for name in names}
        self._app, self._metrics = await make_front(self._settings, self._versions)

    async def _gather_metrics(self) -> None:
        assert self._metrics is not None  # noqa: S101 - for mypy
        if monotonic() < self._metrics_until:  # whoever may not see them could else keep all busy
            return
        self._metrics_until = monotonic() + METRICS_LIFE
        pages = await asyncio.gather(*map(_families, self._handles.values()))
        self._metrics.show_others([family for page in pages for family in page])


class Ingress:
    """The class behind the ingress; requests go to the ``IngressApp`` that Ray makes for it."""

    app: IngressApp

    def __init__(self, *others: object) -> None:
        """Ignores its arguments: Ray deploys what they stand for along with the ingress."""

    async def families(self) -> list[Metric]:
        """Returns this replica's metrics."""
        return self.app.families()


async def _families(handle: "DeploymentHandle[Any]") -> list[Metric]:
    """Asks every replica of a deployment; those that do not answer in time are left out."""
    pages: list[Any] = []
    with contextlib.suppress(TimeoutError, RayError, RayServeException):
        answers = handle.broadcast("families")
        pages = await answers.results_async(timeout_s=METRICS_SECONDS, return_exceptions=True)
    return [family for page in pages if not isinstance(page, BaseException) for family in page]


def _without_request_id(send: Send) -> Send:
    """Leaves out a header that Ray's proxy adds to every answer."""

    async def send_without(message: Message) -> None:
        if message["type"] == "http.response.start":
            del MutableHeaders(scope=message)["X-Request-ID"]
        await send(message)

    return send_without
