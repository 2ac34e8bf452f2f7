"""uvicorn's protocols, with bounds on what a connection holds before the application sees it."""

import asyncio
import sys
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from ferserve.budget import UploadBudget
from ferserve.errors import QueueFull

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
HEAD_SECONDS = 10
"""Longest time from the first byte of a head to its last."""

MAX_PIPELINED = 16
"""Most requests of a connection that wait for the one before them."""

CHUNK_OVERHEAD = 256 * 1024
"""Bytes that the framing of a body may take beside half of its own: chunks of a few bytes cost
processor time, not memory."""

MAX_MESSAGES = 1000
"""Most frames of a WebSocket, pings among them, that come in a second."""

SLICE_BYTES = 16 * 1024
"""Bytes that are parsed between counts of messages."""

STALL_SECONDS = 60.0
"""How long the system may accept nothing more for a client; its buffers hide some megabytes."""

CLOSE_SECONDS = 2.0
"""How long a client may take to answer a close."""

TIMER = "timeout_keep_alive_task"
"""What a connection of HTTP has while no request of it is under way."""

TOO_MANY, TRY_AGAIN = 1008, 1013
"""Close codes (RFC 6455 and IANA's registry)."""


class _Impatient:
    """Gives up clients that take no answers, which have no other timer."""

    transport: Any
    loop: Any
    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._wait(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._relax()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)  # type: ignore[misc]

    def _wait(self, left: int) -> None:
        self._stalled = self.loop.call_later(STALL_SECONDS, self._look, left)

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._wait(left)
        else:
            self.transport.abort()

    def _relax(self) -> None:
        if self._stalled:
            self._stalled.cancel()


class BoundedHttp(_Impatient, HttpToolsProtocol):
    """HTTP/1.1 with limits on heads, on pipelining, and on connections, WebSockets included."""

    def __init__(self, *, max_connections: int, **options: Any) -> None:
        super().__init__(**options)
        self._max_connections = max_connections
        self._reads_head = False
        self._head_bytes = 0
        self._head_until = 0.0
        self._framing = 0
        self._parsed = b""

    def connection_made(self, transport: Any) -> None:
        """Takes a connection, if need be for the one that would next be closed as idle or slow."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            waiting = [one for one in self.connections if getattr(one, TIMER, None)]
            min(waiting, key=lambda one: getattr(one, TIMER).when(), default=self).transport.abort()
        self._close_after(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """Parses what came, then looks at what is not complete."""
        self._framing += len(data)
        self._parsed = data
        super().data_received(data)
        self._parsed = b""
        if self not in self.connections or self.transport.is_closing():
            return  # a WebSocket now, or refused
        if self._reads_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("Invalid HTTP request received: its head is too large.")
            else:
                self._close_after(self._head_until - self.loop.time())
        elif self.cycle is None or self.cycle.response_complete:
            self._close_after(self.timeout_keep_alive)
        elif self._framing > CHUNK_OVERHEAD:
            self.send_400_response("Invalid HTTP request received: its chunks are too small.")

    def _unsupported_upgrade_warning(self) -> None:
        """Parses the request again without its ``Upgrade``: this parser would skip its body.

        Java's ``HttpClient`` asks for HTTP/2 so, and ``curl --http2``.
        """
        if not self._ignores_upgrade():  # CONNECT, which would come back here
            return
        stopped = cast(Any, sys.exception())  # its argument is where the head ends
        head = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        head += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.data_received(b"".join([*head, b"\r\n", self._parsed[stopped.args[0] :]]))

    def _ignores_upgrade(self) -> bool:
        offered = any(name == b"upgrade" for name, _ in self.headers)
        return offered and self.parser.should_upgrade() and not self._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Refuses to upgrade during an answer, whose end nobody would be told of."""
        if self.flow.write_paused or (self.cycle and not self.cycle.response_complete):
            self.send_400_response("Invalid HTTP request received: an answer is under way.")
        else:
            super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """Notes that a head begins."""
        super().on_message_begin()
        self._reads_head, self._head_bytes = True, 0
        self._head_until = self.loop.time() + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        """Starts a request; where its head is too large or too many wait, uvicorn answers 400."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            raise ValueError("the head is too large")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests are pipelined")
        self._reads_head, self._framing = False, 0
        if not self._ignores_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a part of a body."""
        self._framing -= len(body) + len(body) // 2
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request, but for one that is parsed again."""
        if not self._ignores_upgrade():
            super().on_message_complete()

    def _close_after(self, seconds: float) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )


class BoundedWebSocket(_Impatient, WebSocketsSansIOProtocol):
    """A WebSocket whose unfinished messages are charged, with a limit on their number."""

    def __init__(self, *, budget: UploadBudget, **options: Any) -> None:
        super().__init__(**options)
        self.close_timeout = CLOSE_SECONDS
        self._budget = budget
        self._charged = self._messages = 0
        self._second = 0.0
        self._drains = False

    def data_received(self, data: bytes) -> None:
        """Parses what came, then charges what is not complete."""
        for start in range(0, len(data), SLICE_BYTES):
            if self._drains or self.transport.is_closing():
                return
            super().data_received(data[start : start + SLICE_BYTES])
            if self.conn.handshake_exc and not self.handshake_initiated:
                # A head that only this parser refuses: uvicorn would neither answer nor close.
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.close_sent = True
                self.transport.close()
                return
            if self._messages > MAX_MESSAGES:
                self._fail(TOO_MANY, "too many messages a second")
        held = len(self.conn.reader.buffer) + sum(map(len, self.frames))
        if self.close_sent and held > SLICE_BYTES:
            self._drains = True  # the client may read why until it, or the timer, closes
            self._let_go()
            return
        try:
            self._charge(held)
        except QueueFull as refusal:
            self._fail(TRY_AGAIN, refusal.detail)

    def handle_connect(self, event: Request) -> None:
        """Starts the application, which decides before any frame is read."""
        super().handle_connect(event)
        self.transport.pause_reading()

    def start_keepalive(self) -> None:
        """Reads frames, as the handshake was accepted."""
        super().start_keepalive()
        self.transport.resume_reading()

    def handle_events(self) -> None:
        """Counts the frames of this second."""
        if self.loop.time() >= self._second + 1:
            self._second, self._messages = self.loop.time(), 0
        self._messages += len(self.conn.events)
        super().handle_events()

    def pause_writing(self) -> None:
        """Reads nothing from a client that takes no pongs and no answers."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Reads on."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Leaves an open stream to the application, which answers its frames and closes it."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Frees what was not complete: as a cycle it would wait for the garbage collector."""
        self._let_go()
        super().connection_lost(exc)

    def _charge(self, held: int) -> None:
        more = held - self._charged
        if more > 0:
            self._budget.take(more)
        elif more < 0:
            self._budget.give_back(-more)
        self._charged = held

    def _fail(self, code: int, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()
        self._let_go()

    def _let_go(self) -> None:
        self.conn.reader.discard()
        self.frames = []
        self._charge(0)
