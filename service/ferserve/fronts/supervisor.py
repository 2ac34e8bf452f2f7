"""The process that ``ferserve serve`` starts: runs the engine, and keeps the fronts running."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from ferserve.bundle import ModelError
from ferserve.fronts.channel import Channel, ChannelLost
from ferserve.fronts.engine import REFUSALS, Desk, Engine
from ferserve.fronts.memory import Memory, create_memory
from ferserve.fronts.metrics import FleetMetrics
from ferserve.garbage import leave_out_start_up
from ferserve.recognizer import Recognizer
from ferserve.settings import Settings

START_UP_FAILED = 3
"""Exit status, as uvicorn's."""

RESTART_SECONDS = 1.0
"""Pause before a dead front is replaced: what kills every front at once must not spin."""

LAST_SECONDS = 10.0
"""How much longer than its own limits a front may take to end before it is killed."""

FRONT = (
    "import runpy, sys; sys.path[:] = {!r}; "
    "runpy.run_module('ferserve.fronts', run_name='__main__')"
)
"""What a front runs: with the engine's path, as that of ``-m`` begins with the working folder."""

logger = logging.getLogger(__name__)


class FrontFailed(RuntimeError):  # noqa: N818 - as the others
    """A front ended before all had started; its log says why."""


class Fleet:
    """The front processes.

    Args:
        engine: What they ask.
        settings: Of the service.
        metrics: Shows theirs.
        listeners: What they accept connections from.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        metrics: FleetMetrics,
        listeners: Sequence[socket.socket],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._listeners = listeners
        self._descriptor = create_memory(engine.layout.size)
        self._memory = Memory(self._descriptor, engine.layout)
        self._desks: dict[int, Desk] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._started = False
        self._ending = False

    async def start(self) -> None:
        """Starts all fronts."""
        for front in range(self._settings.front_processes):
            await self._spawn(front)
        self._keepers = [asyncio.create_task(self._keep(front)) for front in self._processes]

    async def until_ready(self) -> None:
        """Waits until all take connections.

        Raises:
            FrontFailed: One could not start.
        """
        ready = asyncio.gather(*(desk.ready.wait() for desk in self._desks.values()))
        both: set[asyncio.Future[Any]] = {ready, *self._keepers}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise FrontFailed("a front ended before it was ready")
        finally:
            ready.cancel()
        self._started = True

    async def drain(self) -> None:
        """Has all fronts answer what is under way and end, and waits for them."""
        self._ending = True
        for listener in self._listeners:
            listener.close()  # or connections would still be made after the last front has gone
        for front, desk in self._desks.items():
            try:
                if desk.joined:
                    desk.channel.begin("drain")
                else:
                    self._kill(front)
            except ChannelLost:
                pass  # it has just died
        limit = 2 * self._settings.drain_seconds + LAST_SECONDS
        _, left = await asyncio.wait(self._keepers, timeout=limit)
        if left:
            logger.error("%d fronts did not end in time: killing them", len(left))
        await self.kill()

    async def kill(self) -> None:
        """Ends all fronts at once."""
        self._ending = True
        self.kill_soon()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def kill_soon(self) -> None:
        """Kills all fronts, without waiting for them."""
        for front in self._processes:
            self._kill(front)

    def _kill(self, front: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._processes[front].kill()

    async def _keep(self, front: int) -> None:
        """Replaces a front whenever it ends; before all have started, it ends with it."""
        while True:
            status = await self._processes[front].wait()
            self._desks[front].channel.close()
            self._metrics.front_left(front)
            self._memory.held[front] = 0
            if self._ending or not self._started:
                return
            logger.critical("front %d ended with status %d; starting another", front, status)
            await asyncio.sleep(RESTART_SECONDS)
            if self._ending:
                return
            try:
                await self._spawn(front)
            except OSError:  # no memory, no file left: the next try may find some
                logger.exception("front %d cannot be started", front)
            if self._ending:
                self._kill(front)

    async def _spawn(self, front: int) -> None:
        ours, theirs = socket.socketpair()
        desk = Desk(self._engine, self._memory, front)
        with theirs:
            _, desk.channel = await asyncio.get_running_loop().create_unix_connection(
                lambda: Channel(desk.methods, REFUSALS), sock=ours
            )
            self._desks[front] = desk
            descriptors = [theirs.fileno(), self._descriptor]
            descriptors += [listener.fileno() for listener in self._listeners]
            self._processes[front] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", FRONT.format(sys.path), *map(str, descriptors)),
                pass_fds=descriptors,
                start_new_session=True,  # or Ctrl-C would end it before its requests are answered
            )
        self._metrics.front_joined(front, lambda: desk.channel.call("families"))


def run(settings: Settings, recognizer: Recognizer, metrics: FleetMetrics) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends everything at once.

    Args:
        settings: With ``front_processes``.
        recognizer: Has loaded the models.
        metrics: Those that ``recognizer`` reports to.

    Raises:
        SystemExit: Start-up failed; the log says why.
    """
    try:
        listeners = bind(settings.host, settings.port)
    except OSError as error:
        logger.critical("cannot start: %s", error)
        sys.exit(START_UP_FAILED)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(settings, recognizer, metrics, listeners))


def bind(host: str, port: int) -> list[socket.socket]:
    """Binds to every address of a host; nobody can connect before a front listens.

    Args:
        host: Its name or address; an empty one means all addresses of this machine.
        port: 0 takes a free one.

    Raises:
        OSError: An address is in use or none of this machine's.
    """
    listeners: list[socket.socket] = []
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Returns the loop that uvicorn would take, too."""
    try:
        import uvloop
    except ImportError:  # it is made for CPython on Linux and macOS
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(
    settings: Settings,
    recognizer: Recognizer,
    metrics: FleetMetrics,
    listeners: list[socket.socket],
) -> None:
    engine = Engine(settings, recognizer, metrics)
    fleet = Fleet(engine, settings, metrics, listeners)
    stopping = asyncio.Event()

    def stop(number: int) -> None:
        if stopping.is_set():
            logger.warning("a second signal: stopping without answering what is under way")
            fleet.kill_soon()
            os._exit(128 + number)  # not sys.exit: it would wait for threads
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(engine.running())
        except ModelError as error:
            logger.critical("cannot start: %s", error)
            sys.exit(START_UP_FAILED)
        await fleet.start()
        starting = asyncio.create_task(fleet.until_ready())
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                _tell(settings, listeners)
                leave_out_start_up()
                await waiting
            starting.cancel()
            logger.info("Shutting down")
            engine.begin_drain()
            await fleet.drain()
        except FrontFailed as error:
            logger.critical("cannot start: %s", error)
            await fleet.kill()
            sys.exit(START_UP_FAILED)


def _tell(settings: Settings, listeners: list[socket.socket]) -> None:
    """Says where the service is, in uvicorn's words."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = listeners[0].getsockname()[1]
    fronts = settings.front_processes
    logger.info("Uvicorn running on http://%s:%d (Press CTRL+C to quit)", host, port)
    logger.info("%d front processes and one engine", fronts)
