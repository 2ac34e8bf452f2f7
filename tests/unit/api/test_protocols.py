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


async def test_a_client_that_takes_some_is_waited_for(monkeypatch):
    monkeypatch.setattr(protocols, "STALL_SECONDS", 0.05)
    aborted, looks = asyncio.Event(), []

    class Transport:
        left = iter((100, 90, 80, 80))

        def get_write_buffer_size(self) -> int:
            looks.append(1)
            return next(self.left)

        abort = aborted.set

    class Protocol(protocols._Impatient, asyncio.Protocol):
        transport, loop = Transport(), asyncio.get_running_loop()

    Protocol().pause_writing()
    await aborted.wait()
    assert len(looks) == 4


async def test_no_connection_is_upgraded_during_an_answer():
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(15)
        (connection,) = server.server_state.connections
        writer.write(HANDSHAKE.format(target="/", header="X: y").encode())
        await until(connection.transport.is_closing)
        assert isinstance(connection, protocols.BoundedHttp)
        writer.close()


HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {22 * 'A'}==\r\n{{header}}\r\n\r\n"
)


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
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE.format(target=target, header=header).encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(status)
        writer.close()
