"""The HTTP server: one process, and an orderly end."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import uvicorn

from service import logs
from service.app import create_app
from service.bundle import ModelError
from service.recognizer import Recognizer
from service.settings import Settings

NOTICE_SECONDS = 1.0
"""How long connections are still taken once ``/readyz`` says no, for load balancers to see it."""

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Turns readiness off first, and only then stops taking connections."""

    def __init__(
        self, config: uvicorn.Config, begin_drain: Callable[[], None], notice: float
    ) -> None:
        super().__init__(config)
        self._begin_drain = begin_drain
        self._notice = notice

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Gives notice, waits for requests under way and ends the application."""
        self._begin_drain()
        await asyncio.sleep(self._notice)
        await super().shutdown(sockets)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, both of which end the process with status 0.

    Raises:
        SystemExit: With status 0 after SIGTERM, 1 or 3 when start-up failed; the log says why.
    """
    logs.configure(settings.log_format)
    # uvicorn raises the signal anew when it is done, to end as an unprepared process would.
    signal.signal(signal.SIGTERM, _exit)
    try:
        recognizer = Recognizer(settings)
    except ModelError as error:
        logger.critical("cannot start: %s", error)
        sys.exit(1)
    app = create_app(settings, recognizer)

    def begin_drain() -> None:
        recognizer.begin_drain()
        app.state.benchmarks.queue.begin_close()  # ends the event streams, which would go on

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = DrainingServer(config, begin_drain, min(NOTICE_SECONDS, settings.drain_seconds))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
