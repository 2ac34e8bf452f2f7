"""What fronts can ask of the engine, which owns whatever there must be only one of."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from ferserve.api.app import create_app
from ferserve.batcher import BatcherClosed, BatchFailed, DeadlineExceeded, Lane, QueueFull
from ferserve.errors import Problem
from ferserve.fronts import forwarding
from ferserve.fronts.channel import Channel, Method
from ferserve.fronts.memory import Layout, Memory, write_answers
from ferserve.fronts.metrics import FleetMetrics
from ferserve.logs import REQUEST_ID
from ferserve.recognizer import Recognizer
from ferserve.runtime.options import GPU_WORKERS
from ferserve.serving import Description, describe
from ferserve.settings import Settings, usable_cpus

REFUSALS = (QueueFull, DeadlineExceeded, BatcherClosed, BatchFailed, Problem)
"""What goes to a front as it is."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What a front needs to begin.

    Attributes:
        front: Its number, from 0.
        settings: Of the service.
        layout: Of the shared memory.
        models: What is served, by name.
    """

    front: int
    settings: Settings
    layout: Layout
    models: Mapping[str, Description]


class Engine:
    """The models with their batchers, the counts of calls, and the benchmarks.

    Its application is that of a single process; but only forwarded requests come to it.

    Args:
        settings: Of the service.
        recognizer: Has loaded the models.
        metrics: Those that ``recognizer`` reports to.

    Attributes:
        layout: Of the memory that it wants to share with the fronts.
    """

    def __init__(self, settings: Settings, recognizer: Recognizer, metrics: FleetMetrics) -> None:
        self._settings = settings
        self._recognizer = recognizer
        self._metrics = metrics
        self._models = {card.name: recognizer.served(card.name) for card in recognizer.cards}
        self._app = create_app(settings, recognizer, metrics)
        # As many as there can be in all queues and batches: the batchers should be those who
        # refuse. Pages of memory that no face was ever in take no room.
        workers = settings.inference_workers or max(usable_cpus(), GPU_WORKERS)
        computing = workers * settings.max_batch
        slots = len(self._models) * (settings.max_queue + computing)
        self.layout = Layout(settings.front_processes, slots)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Warms the models and takes faces, until the end."""
        async with self._app.router.lifespan_context(self._app):
            yield

    def begin_drain(self) -> None:
        """Says so in ``/metrics``, and ends the benchmarks, whose event streams would go on."""
        self._recognizer.begin_drain()
        self._app.state.benchmarks.queue.begin_close()

    def describe(self, front: int) -> Start:
        """Returns what a front needs to begin."""
        models = {name: describe(model) for name, model in self._models.items()}
        return Start(front, self._settings, self.layout, models)

    @property
    def healthy(self) -> dict[str, bool]:
        """Whether each model takes faces, by name."""
        return {name: model.batcher.healthy for name, model in self._models.items()}

    async def count_call(self, caller: str) -> None:
        """Counts one request.

        Raises:
            RateLimited: It is one too many.
        """
        await self._app.state.guard.limiter.hit(caller)

    async def rate(
        self, memory: Memory, front: int, name: str, slots: list[int], deadline: float, lane: Lane
    ) -> None:
        """Rates the faces in a front's slots, and puts the answers there.

        Args:
            memory: Shared with the front.
            front: Its number.
            name: Of the model.
            slots: Where the faces are.
            deadline: As in ``Batcher.submit``.
            lane: As there; as what is raised.
        """
        faces = memory.faces[front]
        batcher = self._models[name].batcher
        try:
            answers = await batcher.submit([faces[slot] for slot in slots], deadline, lane)
        except BatchFailed:
            logger.exception("a batch failed")  # its cause does not travel
            raise
        write_answers(memory.answers[front], slots, answers)

    async def answer(self, channel: Channel, number: int, scope: dict[str, Any]) -> None:
        """Serves a request that a front forwarded."""
        await forwarding.answer(self._app, channel, number, scope)


class Desk:
    """Where one front asks.

    Args:
        engine: Answers.
        memory: Shared with the fronts.
        front: The front's number.

    Attributes:
        channel: To the front; set by who opens it.
        joined: Whether the front knows what to do.
        ready: Is set when it takes connections.
    """

    channel: Channel

    def __init__(self, engine: Engine, memory: Memory, front: int) -> None:
        self.joined = False
        self.ready = asyncio.Event()
        self._engine = engine
        self._memory = memory
        self._front = front

    @property
    def methods(self) -> dict[str, Method]:
        """What the front may call."""
        return {
            "join": self._join,
            "announce": self._announce,
            "rate": self._rate,
            "health": self._health,
            "hit": self._engine.count_call,
            "serve": self._serve,
        }

    async def _join(self) -> Start:
        self.joined = True
        return self._engine.describe(self._front)

    async def _announce(self) -> None:
        self.ready.set()

    async def _rate(
        self, name: str, slots: list[int], deadline: float, lane: Lane, request_id: str
    ) -> None:
        REQUEST_ID.set(request_id)  # of this call's own task
        await self._engine.rate(self._memory, self._front, name, slots, deadline, lane)

    async def _health(self) -> dict[str, bool]:
        return self._engine.healthy

    async def _serve(self, number: int, scope: dict[str, Any]) -> None:
        await self._engine.answer(self.channel, number, scope)
