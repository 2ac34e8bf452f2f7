"""uvicorn's protocols with our bounds, under a server of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import uvicorn
from ferserve.api import protocols
from ferserve.budget import UploadBudget
from waiting import until


async def endless(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(100):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[uvicorn.Server, int]]:
    http = partial(protocols.BoundedHttp, max_connections=100)
    ws = partial(protocols.BoundedWebSocket, budget=UploadBudget(1_000_000))
    server = uvicorn.Server(
        uvicorn.Config(endless, port=0, http=http, ws=ws, lifespan="off", log_level="critical")
    )
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def test_a_client_that_takes_no_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(protocols, "STALL_SECONDS", 0.2)
    async with serving() as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.server_state.connections)
        await until(lambda: not server.server_state.connections)
        writer.close()


@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        ("/", "Cookie: " + 9000 * "c", b"HTTP/1.1 431 "),
        ("/?" + 9000 * "q", "X: y", b"HTTP/1.1 414 "),
        ("/", "Content-Length: 5", b""),
    ],
    ids=["cookie", "query", "body"],
)
async def test_a_handshake_that_websockets_refuses_is_answered_and_closed(target, header, status):
    head = (
        f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {22 * 'A'}==\r\n{header}\r\n\r\n"
    )
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(status)
        writer.close()
