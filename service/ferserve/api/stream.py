"""``WS /v1/emotion/stream``: frames in, for each a message out. The protocol: docs/stream.md."""

import asyncio
import base64
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import cast

from fastapi import APIRouter, WebSocket
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from ferserve import errors
from ferserve.api.parameters import read_options
from ferserve.api.problems import as_refusal, describe
from ferserve.api.security import Guard, presented_key
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import (
    Box,
    Recognition,
    StreamAnswer,
    StreamEnd,
    StreamOptions,
    StreamProblem,
    StreamRefusal,
)
from ferserve.streaming import End, FrameAnswer, FrameStream, Streams

SUBPROTOCOL = "ferserve.v1"
"""What the service selects where a client offers it."""

KEY_SUBPROTOCOL = "ferserve.key."
"""Begins the subprotocol that carries a key, in base64url without padding: browsers can set no
header, and a query would stand in logs."""

LAST_MESSAGE = "end"
"""The text message after a client's last frame."""

CLOSING_SECONDS = 5
"""How long a client may take to read what is left at the end."""

CLOSE: dict[End, tuple[int, str]] = {
    End.FINISHED: (1000, ""),
    End.SHUTDOWN: (1012, "the service is shutting down; connect anew"),
    End.UNKNOWN_MESSAGE: (1003, "a text message other than 'end'"),
    End.IDLE: (4408, "no frame came, or no answer was taken, for too long"),
    End.TOO_LONG: (4410, "the stream reached its longest time; connect anew"),
}
"""Close codes and reasons; a stream that is refused closes with 4000 + its problem's status."""

router = APIRouter(prefix="/v1/emotion")


@router.websocket("/stream")
async def stream_emotions(websocket: WebSocket) -> None:
    """Answers frames until the client, a limit or the service ends the stream.

    All that can refuse it is asked before the handshake is accepted, and before a frame is read.
    It is accepted nevertheless: pages can read a message, but no failed handshake.
    """
    guard: Guard = websocket.app.state.guard
    streams: Streams = websocket.app.state.streams
    offered = websocket.scope["subprotocols"]
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    channel = _Channel(websocket)
    with ExitStack() as held:
        try:
            guard.check_head(websocket.headers, acts=True)
            caller = await guard.admit(websocket, _key(websocket))
            stream = _prepare(websocket, guard, caller)
            held.enter_context(guard.stream(caller))
            held.enter_context(streams.place(stream))
        except Exception as error:
            websocket.app.state.metrics.stream_ended("refused")
            problem = describe(websocket, error)
            wait = as_refusal(error).headers.get("Retry-After")
            refusal = StreamRefusal(problem=problem, retry_after=int(wait) if wait else None)
            await websocket.accept(subprotocol)
            await channel.close(refusal, 4000 + problem.status, problem.code)
            return
        await websocket.accept(subprotocol)
        end = await stream.run(channel.receive, channel.send)
    if end in CLOSE:
        await channel.close(StreamEnd(end=stream.counts), *CLOSE[end])


def _prepare(websocket: WebSocket, guard: Guard, caller: str) -> FrameStream:
    """Checks what a stream is asked for, so that a frame's problem is the frame's own."""
    recognizer: AsyncRecognizer = websocket.app.state.recognizer
    options = read_options(websocket, StreamOptions)
    of_a_frame = options.of_a_frame()
    recognizer.check(of_a_frame)
    max_bytes = recognizer.settings.max_upload_bytes

    async def recognize(data: bytes, near: Sequence[Box]) -> Recognition:
        await guard.count(caller)
        if len(data) > max_bytes:
            raise errors.PayloadTooLarge(f"a frame may have at most {max_bytes} bytes")
        near = [] if options.detect == "every-frame" else near
        return await recognizer.answer(data, of_a_frame, near=near)

    return FrameStream(
        recognize,
        websocket.app.state.upload_budget,
        options.smoothing_seconds,
        websocket.app.state.metrics,
    )


class _Channel:
    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes | None:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ConnectionError
        if message.get("bytes") is not None:
            return cast(bytes, message["bytes"])
        if message["text"] == LAST_MESSAGE:
            return None
        raise errors.MalformedRequest("a text message other than 'end'")

    async def send(self, answer: FrameAnswer) -> None:
        await self._send(_message(self._websocket, answer))

    async def close(self, message: BaseModel, code: int, reason: str) -> None:
        """Sends the last message and closes the stream, if the client takes it."""
        with suppress(ConnectionError, WebSocketDisconnect, TimeoutError):  # nobody is left
            async with asyncio.timeout(CLOSING_SECONDS):
                await self._send(message)
                await self._websocket.close(code, reason)

    async def _send(self, message: BaseModel) -> None:
        try:
            await self._websocket.send_text(message.model_dump_json(exclude_unset=True))
        except WebSocketDisconnect:
            raise ConnectionError from None


def _message(connection: HTTPConnection, answer: FrameAnswer) -> BaseModel:
    outcome = answer.outcome
    if isinstance(outcome, Exception):
        problem = describe(connection, outcome)
        return StreamProblem(frame=answer.frame, dropped=answer.dropped, problem=problem)
    return StreamAnswer(
        request_id=connection.state.request_id,
        frame=answer.frame,
        dropped=answer.dropped,
        **dict(outcome),
    )


def _key(websocket: WebSocket) -> str | None:
    """Returns the key of the handshake: a header's, or a subprotocol's."""
    if key := presented_key(websocket.headers):
        return key
    for offered in websocket.scope["subprotocols"]:
        if offered.startswith(KEY_SUBPROTOCOL):
            encoded = offered.removeprefix(KEY_SUBPROTOCOL)
            with suppress(ValueError):
                padded = encoded + "=" * (-len(encoded) % 4)
                return base64.b64decode(padded, altchars="-_", validate=True).decode()
    return None
