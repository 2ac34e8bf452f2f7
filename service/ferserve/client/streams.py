"""Frames through a WebSocket; the protocol is that of docs/stream.md."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping

import httpx
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ferserve.client.failures import Attempts, StreamClosed, refusal_of_answer, refusal_of_problem
from ferserve.inputs import ImageInput, as_bytes
from ferserve.interface import each
from ferserve.schemas import (
    StreamAnswer,
    StreamEnd,
    StreamingOptions,
    StreamProblem,
    StreamRefusal,
)

WINDOW = 2
"""Most frames unanswered where none may be dropped: one is worked on, and one waits."""

LAST_MESSAGE = "end"

NORMAL, BROKEN = 1000, 1006
"""Close codes (RFC 6455, section 7.4.1)."""

_MESSAGES: TypeAdapter[StreamAnswer | StreamProblem | StreamRefusal | StreamEnd] = TypeAdapter(
    StreamAnswer | StreamProblem | StreamRefusal | StreamEnd
)


def stream_url(base_url: str, options: StreamingOptions) -> str:
    """Returns the address of the stream, with the options in its query."""
    base = httpx.URL(base_url)
    return str(
        base.copy_with(
            scheme="wss" if base.scheme == "https" else "ws",
            path=f"{base.path.rstrip('/')}/v1/emotion/stream",
            params=options,
        )
    )


async def stream_frames(
    url: str,
    headers: Mapping[str, str],
    frames: Iterable[ImageInput] | AsyncIterable[ImageInput],
    live: bool,
    attempts: Attempts,
) -> AsyncGenerator[StreamAnswer | StreamProblem]:
    """Sends frames in a task of its own and yields their answers; see ``AsyncClient.stream``."""
    socket = await _connected(url, headers, attempts)
    room = None if live else asyncio.Semaphore(WINDOW - 1)
    fault: Exception | None = None

    async def send() -> None:
        nonlocal fault
        try:
            async for frame in each(frames):
                await socket.send(await asyncio.to_thread(as_bytes, frame))
                if room:
                    await room.acquire()
            await socket.send(LAST_MESSAGE)
        except ConnectionClosed:
            pass  # who receives is told as well
        except Exception as error:  # of the frames
            fault = error
            await socket.close()

    sending = asyncio.create_task(send())
    last_frame = 0
    try:
        while True:
            message = _MESSAGES.validate_json(await socket.recv())
            if isinstance(message, StreamRefusal):
                raise refusal_of_problem(message.problem)
            if isinstance(message, StreamEnd):
                continue
            if room:
                for _ in range(message.frame - last_frame):
                    room.release()
            last_frame = message.frame
            yield message
    except ConnectionClosed as closed:
        if fault:
            raise fault from None
        code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (BROKEN, "")
        if code != NORMAL:
            raise StreamClosed(code, reason) from None
    finally:
        sending.cancel()
        await socket.close()


async def _connected(url: str, headers: Mapping[str, str], attempts: Attempts) -> ClientConnection:
    while True:
        try:
            return await connect(url, additional_headers=headers, compression=None, max_size=None)
        except InvalidStatus as error:
            answer = error.response
            pause = attempts.pause_after_answer(answer.status_code, answer.headers)
            if pause is None:
                body = bytes(answer.body or b"")
                raise refusal_of_answer(answer.status_code, body, answer.headers) from None
        except (OSError, InvalidHandshake):
            pause = attempts.pause()
            if pause is None:
                raise
        await asyncio.sleep(pause)
