"""Frames through a WebSocket; the protocol is that of docs/stream.md."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import AsyncExitStack

from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ferserve.client.problems import StreamClosed, refusal_of_answer, refusal_of_problem
from ferserve.client.retries import Attempts
from ferserve.inputs import ImageInput, as_bytes
from ferserve.interface import each
from ferserve.schemas import StreamAnswer, StreamEnd, StreamProblem, StreamRefusal

WINDOW = 2
"""Most frames unanswered where none may be dropped: one is worked on, and one waits."""

LAST_MESSAGE = "end"

NORMAL, BROKEN = 1000, 1006
"""Close codes (RFC 6455, section 7.4.1)."""

FrameResult = StreamAnswer | StreamProblem

_MESSAGES: TypeAdapter[StreamAnswer | StreamProblem | StreamRefusal | StreamEnd] = TypeAdapter(
    StreamAnswer | StreamProblem | StreamRefusal | StreamEnd
)


async def stream_frames(
    url: str,
    headers: Mapping[str, str],
    frames: Iterable[ImageInput] | AsyncIterable[ImageInput],
    live: bool,
    attempts: Attempts,
) -> AsyncGenerator[FrameResult]:
    """Sends frames in a task of its own and yields their answers; see ``AsyncClient.stream``.

    Raises:
        Refusal: The service refused the stream.
        StreamClosed: It ended the stream, or the connection broke.
        OSError: It could not be reached.
    """
    async with AsyncExitStack() as stack:
        while True:
            try:
                connecting = connect(
                    url, additional_headers=headers, compression=None, max_size=None
                )
                socket = await stack.enter_async_context(connecting)
                break
            except (OSError, InvalidHandshake) as error:
                await asyncio.sleep(_pause_after(error, attempts))
        sender = _Sender(socket, frames, live)
        stack.callback(sender.stop)
        last_frame = 0
        try:
            while True:
                result = _result(await socket.recv())
                if result:
                    sender.answered(result.frame - last_frame)
                    last_frame = result.frame
                    yield result
        except ConnectionClosed as closed:
            if sender.error:
                raise sender.error from None
            _check_end(closed)


class _Sender:
    """The task that sends the frames.

    Attributes:
        error: What the frames raised.
    """

    def __init__(
        self,
        socket: ClientConnection,
        frames: Iterable[ImageInput] | AsyncIterable[ImageInput],
        live: bool,
    ) -> None:
        self.error: Exception | None = None
        self._socket = socket
        self._frames = frames
        self._places = None if live else asyncio.Semaphore(WINDOW - 1)
        self._task = asyncio.create_task(self._run())

    def answered(self, frames: int) -> None:
        """Lets as many more frames be sent."""
        if self._places:
            for _ in range(frames):
                self._places.release()

    def stop(self) -> None:
        """Sends no more."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            async for frame in each(self._frames):
                await self._socket.send(await asyncio.to_thread(as_bytes, frame))
                if self._places:
                    await self._places.acquire()
            await self._socket.send(LAST_MESSAGE)
        except ConnectionClosed:
            pass  # who receives is told as well
        except Exception as error:
            self.error = error
            await self._socket.close()


def _result(message: str | bytes) -> FrameResult | None:
    """Returns what became of a frame; None for the message at the end.

    Raises:
        Refusal: The service refused the stream.
    """
    parsed = _MESSAGES.validate_json(message)
    if isinstance(parsed, StreamRefusal):
        raise refusal_of_problem(parsed.problem)
    return None if isinstance(parsed, StreamEnd) else parsed


def _check_end(closed: ConnectionClosed) -> None:
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (BROKEN, "")
    if code != NORMAL:
        raise StreamClosed(code, reason) from None


def _pause_after(error: OSError | InvalidHandshake, attempts: Attempts) -> float:
    """Returns the seconds to wait before connecting anew, or raises."""
    if isinstance(error, InvalidStatus):
        answer = error.response
        pause = attempts.pause_after_answer(answer.status_code, answer.headers)
        if pause is None:
            body = bytes(answer.body or b"")
            raise refusal_of_answer(answer.status_code, body, answer.headers) from None
        return pause
    pause = attempts.pause_after_refused_connection()
    if pause is None:
        raise error
    return pause
