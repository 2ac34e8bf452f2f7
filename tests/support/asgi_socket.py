"""A WebSocket to an application in this process, message by message."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

PATIENCE = 20.0


class Socket:
    """The client's end."""

    def __init__(self) -> None:
        self.to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def send(self, data: bytes) -> None:
        self.to_app.put_nowait({"type": "websocket.receive", "bytes": data})

    async def message(self) -> dict[str, Any]:
        """Waits for a message in JSON."""
        return json.loads((await self._next("websocket.send"))["text"])

    async def closed(self) -> tuple[int, str]:
        """Waits for the close; returns its code and reason."""
        message = await self._next("websocket.close")
        return message["code"], message.get("reason", "")

    async def _next(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            message = await self.from_app.get()
        assert message["type"] == kind, message
        return message


@asynccontextmanager
async def connected(app: FastAPI, path: str) -> AsyncIterator[Socket]:
    """Opens a WebSocket that the application accepts."""
    socket = Socket()
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "subprotocols": [],
        "client": ("127.0.0.1", 1),
    }
    serving = asyncio.create_task(app(scope, socket.to_app.get, socket.from_app.put))
    socket.to_app.put_nowait({"type": "websocket.connect"})
    await socket._next("websocket.accept")
    try:
        yield socket
    finally:
        socket.to_app.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(PATIENCE):
            await serving
