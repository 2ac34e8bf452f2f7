"""The HTTP server: one process, and an orderly end."""

import asyncio
import contextlib
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from service import logs
from service.app import create_app
from service.recognizer import Recognizer
from service.settings import Settings

NOTICE_SECONDS = 1.0
"""How long connections are still taken once ``/readyz`` says no, for load balancers to see it."""


class DrainingServer(uvicorn.Server):
    """Turns readiness off first, and only then stops taking connections."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, notice: float) -> None:
        super().__init__(config)
        self._app = app
        self._notice = notice

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Gives notice, waits for requests under way and ends the application."""
        recognizer: Recognizer | None = self._app.state.recognizer
        if recognizer:
            recognizer.begin_drain()
        await asyncio.sleep(self._notice)
        await super().shutdown(sockets)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, both of which end the process with status 0.

    Raises:
        SystemExit: With status 0 after SIGTERM; with 3 when start-up failed, which is logged.
    """
    logs.configure(settings.log_format)
    # uvicorn raises the signal anew when it is done, to end as an unprepared process would.
    signal.signal(signal.SIGTERM, _exit)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = DrainingServer(config, app, min(NOTICE_SECONDS, settings.drain_seconds))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
