"""A front: the application of a single process, but for the models, which are the engine's."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType

from prometheus_client import Metric
from starlette.types import ASGIApp, Receive, Scope, Send

from ferserve import logs
from ferserve.api.app import Limits, create_app
from ferserve.api.security import Guard
from ferserve.api.server import DrainingServer, make_server
from ferserve.fronts.channel import CallFailed, Channel, ChannelLost
from ferserve.fronts.engine import REFUSALS, Start
from ferserve.fronts.forwarding import Forwarder
from ferserve.fronts.limits import EngineLimiter, Share, SharedBudget, SharedStreams
from ferserve.fronts.memory import Held, Memory, Slots
from ferserve.fronts.queue import EngineQueue
from ferserve.fronts.supervisor import new_event_loop
from ferserve.metrics import Metrics
from ferserve.recognizer import Recognizer
from ferserve.serving import ServedModel

HEALTH_SECONDS = 2.0
"""Time that the engine has to say how it is; then it is not well."""

ENGINE_GONE = 1
"""Exit status of a front whose engine is gone."""

logger = logging.getLogger(__name__)


class FrontServer(DrainingServer):
    """Leaves signals to the engine, whose terminal or process group it may share."""

    announce: Callable[[], Awaitable[None]]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Does nothing; the engine says when to end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells the engine once connections are taken."""
        await super().startup(sockets)
        if self.started:
            await self.announce()


class FrontApp:
    """Around the application: what the engine answers, or has to be asked before.

    Args:
        app: Answers all else.
        forward: Has the engine answer.
        look: Asks the engine how it is.
    """

    def __init__(
        self,
        app: ASGIApp,
        forward: Callable[[Scope, Receive, Send], Awaitable[None]],
        look: Callable[[], Awaitable[None]],
    ) -> None:
        self._app = app
        self._forward = forward
        self._look = look

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, stream or life cycle."""
        path = scope.get("path", "")
        if scope["type"] == "http" and (path == "/metrics" or path.startswith("/v1/benchmark")):
            await self._forward(scope, receive, send)
            return
        if path.endswith(("/readyz", "/ready")):  # ours, and those of the inference protocol
            await self._look()
        await self._app(scope, receive, send)


class Front:
    """What this process does for the engine, and what it knows of it.

    Args:
        memory: Descriptor of the shared memory.
        listeners: To accept connections from.
    """

    def __init__(self, memory: int, listeners: Sequence[int]) -> None:
        self._memory = memory
        self._listeners = [socket.socket(fileno=listener) for listener in listeners]
        self._forwarder = Forwarder()
        self._metrics = Metrics()
        self._queues: dict[str, EngineQueue] = {}
        self._server: FrontServer | None = None
        self._started = asyncio.Event()
        self._ended = False

    async def run(self, channel_end: int) -> None:
        """Serves until the engine says that it is enough.

        Args:
            channel_end: Descriptor of a socket, to the engine.
        """
        methods = {"families": self._families, "drain": self._drain, **self._forwarder.methods}
        _, channel = await asyncio.get_running_loop().create_unix_connection(
            lambda: Channel(methods, REFUSALS, self._end_at_once),
            sock=socket.socket(fileno=channel_end),
        )
        start: Start = await channel.call("join")
        logs.configure(start.settings.log_format)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start is not news
        self._server = self._make_server(channel, start)
        await self._server.serve(self._listeners)
        self._ended = True
        channel.close()

    def _make_server(self, channel: Channel, start: Start) -> FrontServer:
        settings = start.settings
        memory = Memory(self._memory, start.layout)
        slots = Slots(memory.faces[start.front], memory.answers[start.front])
        self._metrics = metrics = Metrics(count_emotions=settings.metrics_emotions)
        self._queues = {
            name: EngineQueue(channel, slots, name, metrics.count_batches(name))
            for name in start.models
        }
        models = {
            name: ServedModel(
                model, self._queues[name], model.background_batch, model.background_streams
            )
            for name, model in start.models.items()
        }
        recognizer = Recognizer(settings, metrics, models)
        bodies = Share(memory.held, start.front, Held.UPLOAD_BYTES)
        streams = Share(memory.held, start.front, Held.STREAMS)
        limits = Limits(
            Guard(settings, EngineLimiter(channel) if settings.rate_limit else None),
            SharedStreams(settings.max_streams, metrics, streams),
            SharedBudget(settings.upload_memory_bytes, bodies),
        )
        app = create_app(settings, recognizer, metrics, limits)

        async def forward(scope: Scope, receive: Receive, send: Send) -> None:
            await self._forwarder.forward(channel, scope, receive, send)

        async def look() -> None:
            await self._look(channel)

        async def announce() -> None:
            await channel.call("announce")
            self._started.set()

        server = make_server(FrontServer, app, recognizer, settings, FrontApp(app, forward, look))
        server.announce = announce
        return server

    async def _look(self, channel: Channel) -> None:
        """Asks the engine which models take faces."""
        health: dict[str, bool] = {}
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                health = await channel.call("health")
        except (TimeoutError, ChannelLost, CallFailed):
            logger.warning("the engine does not answer")
        for name, queue in self._queues.items():
            queue.engine_healthy = health.get(name, False)

    async def _families(self) -> list[Metric]:
        return self._metrics.families()

    async def _drain(self) -> None:
        await self._started.wait()
        assert self._server is not None  # noqa: S101 - for mypy
        self._server.should_exit = True

    def _end_at_once(self) -> None:
        if not self._ended:
            logger.critical("the engine is gone")
            os._exit(ENGINE_GONE)


def run(channel: int, memory: int, listeners: Sequence[int]) -> None:
    """Runs a front in this process, until the engine ends it.

    Args:
        channel: Descriptor of a socket, to the engine.
        memory: Descriptor of the shared memory.
        listeners: Descriptors of the sockets to accept connections from.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    async def serve() -> None:
        await Front(memory, listeners).run(channel)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
