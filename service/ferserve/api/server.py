"""The HTTP server: one process, its bounds, and an orderly end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from ferserve.api.app import create_app
from ferserve.api.protocols import BoundedHttp, BoundedWebSocket
from ferserve.garbage import give_back_large_blocks, leave_out_start_up
from ferserve.inputs import MAX_FRAME_BYTES
from ferserve.sessions import ModelError
from ferserve.settings import Settings

NOTICE_SECONDS = 1.0
"""How long connections are still taken once ``/readyz`` says no, for load balancers to see it."""

KEEP_ALIVE_SECONDS = 65
"""How long an idle connection stays open: longer than the minute of most load balancers, which
would otherwise now and then send a request over one that is just being closed."""

CONNECTIONS_BESIDE_STREAMS = 512

FRAME_MARGIN = 64 * 1024
"""A frame that is over the limit of uploads by less gets its problem; a larger one is not read."""

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Turns readiness off first, and only then stops taking connections."""

    def __init__(
        self, config: uvicorn.Config, begin_drain: Callable[[], None], notice: float
    ) -> None:
        super().__init__(config)
        self._begin_drain = begin_drain
        self._notice = notice

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, and spares the garbage collector what it has made."""
        await super().startup(sockets)
        leave_out_start_up()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends orderly at the first signal, and at once at the second."""
        if self.should_exit:
            logger.warning("a second signal: stopping without answering what is under way")
            # Not sys.exit: it would wait for threads that decode.
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Gives notice, waits for requests under way and ends the application."""
        self._begin_drain()
        await asyncio.sleep(self._notice)
        await super().shutdown(sockets)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, both of which end the process with status 0.

    A second signal ends it at once, with status 128 + the signal's number. Status 1 or 3 means
    that start-up failed; the log says why.
    """
    give_back_large_blocks()
    # uvicorn raises the signal anew when it is done, to end as an unprepared process would.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = settings.for_listening()
    try:
        app = create_app(settings)
    except ModelError as error:
        logger.critical("cannot start: %s", error)
        sys.exit(1)

    def begin_drain() -> None:
        app.state.recognizer.begin_drain()
        app.state.benchmarks.queue.begin_close()  # ends the event streams, which would go on
        app.state.streams.begin_close()

    max_connections = CONNECTIONS_BESIDE_STREAMS + settings.max_streams
    config = uvicorn.Config(
        app,
        # Two sockets: one for both families would hide addresses of IPv4 from FORWARDED_ALLOW_IPS.
        host="" if settings.host == "::" else settings.host,
        port=settings.port,
        # uvicorn calls them as classes
        http=cast(Any, partial(BoundedHttp, max_connections=max_connections)),
        ws=cast(Any, partial(BoundedWebSocket, budget=app.state.upload_budget)),
        ws_max_size=min(settings.max_upload_bytes + FRAME_MARGIN, MAX_FRAME_BYTES),
        ws_per_message_deflate=False,  # frames are compressed already
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,  # by default 127.0.0.1's
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = DrainingServer(config, begin_drain, min(NOTICE_SECONDS, settings.drain_seconds))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
