"""Requests that the engine answers, whichever front they came to: ASGI over a channel.

The engine's application pulls and pushes every message through the front, so bodies and streams of
any length pass in pieces, and a slow client holds up nobody else.
"""

from itertools import count
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferserve.fronts.channel import Channel, Method

PLAIN = frozenset(
    {"type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"}
    | {"root_path", "headers", "client", "server"}
)
"""What another process needs of an ASGI scope."""


class Forwarder:
    """The front's side."""

    def __init__(self) -> None:
        self._numbers = count()
        self._open: dict[int, tuple[Receive, Send]] = {}

    @property
    def methods(self) -> dict[str, Method]:
        """What the engine may call while it answers."""
        return {"receive": self._receive, "send": self._send}

    async def forward(self, channel: Channel, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the engine answer an HTTP request."""
        number = next(self._numbers)
        self._open[number] = receive, send
        plain = {key: value for key, value in scope.items() if key in PLAIN}
        try:
            await channel.call("serve", number, plain)
        finally:
            del self._open[number]

    async def _receive(self, number: int) -> Message:
        if number not in self._open:  # given up a moment ago
            return {"type": "http.disconnect"}
        receive, _ = self._open[number]
        return await receive()

    async def _send(self, number: int, message: Message) -> None:
        if number in self._open:
            _, send = self._open[number]
            await send(message)


async def answer(app: ASGIApp, channel: Channel, number: int, scope: dict[str, Any]) -> None:
    """Serves a request that a front forwarded; the engine's side.

    Args:
        app: Answers it.
        channel: To that front.
        number: The front's, of the request.
        scope: The ASGI scope.
    """

    async def receive() -> Message:
        message: Message = await channel.call("receive", number)
        return message

    async def send(message: Message) -> None:
        await channel.call("send", number, message)

    await app(scope, receive, send)
