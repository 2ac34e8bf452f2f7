"""Streams of frames: the newest wins, each is answered or counted as dropped. Knows no HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import Any

from ferserve.budget import UploadBudget
from ferserve.errors import MalformedRequest, NotReady, QueueFull, without_frames
from ferserve.metrics import Metrics
from ferserve.schemas import Box, Recognition, StreamCounts
from ferserve.tracking import FaceTracker

MAX_FPS = 30
"""Most frames a second that are answered in a stream; faster ones are dropped."""

IDLE_SECONDS = 30
"""How long a stream may bring no frame, or take no answer."""

MAX_SECONDS = 3600
"""How long a stream may last."""


class End(Enum):
    """Why a stream ended."""

    FINISHED = "finished"
    CLIENT_LEFT = "client_left"
    UNKNOWN_MESSAGE = "unknown_message"
    IDLE = "idle"
    TOO_LONG = "too_long"
    SHUTDOWN = "shutdown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was received; ``data`` is empty where there was no room for it."""

    number: int
    data: bytes
    arrived: float
    refusal: Exception | None


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """What was seen in a frame, with tracked faces; or what went wrong."""

    frame: int
    dropped: int  # of those before it
    outcome: Recognition | Exception


class NewestFrame:
    """Holds at most one frame that waits: a newer one takes its place."""

    def __init__(self, memory: UploadBudget, metrics: Metrics) -> None:
        self.received = self.dropped = 0
        self._memory = memory
        self._metrics = metrics
        self._waiting: Frame | None = None
        self._finished = asyncio.Event()
        self._changed = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Takes the next frame, dropping the one that waits."""
        self.drop()
        self.received += 1
        refusal = None
        try:
            self._memory.take(len(data))
        except Exception as error:  # told in the frame's turn, so that answers stay in order
            data, refusal = b"", error
        self._waiting = Frame(self.received, data, monotonic(), refusal)
        self._changed.set()

    async def get(self) -> Frame | None:
        """Waits for a frame; None once there will be no more. ``release`` it when it is done."""
        while self._waiting is None and not self._finished.is_set():
            self._changed.clear()
            await self._changed.wait()
        frame, self._waiting = self._waiting, None
        return frame

    def release(self, frame: Frame) -> None:
        """Gives the memory of a frame back that ``get`` returned."""
        self._memory.give_back(len(frame.data))

    def drop(self) -> None:
        """Drops the frame that waits, if there is one."""
        if self._waiting:
            self.release(self._waiting)
            self._waiting = None
            self.count_dropped()

    def count_dropped(self) -> None:
        """Counts a frame that will not be answered."""
        self.dropped += 1
        self._metrics.frame_dropped()

    def finish(self) -> None:
        """Says that there will be no more."""
        self._finished.set()
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Lets time pass in which newer frames may come, unless there will be no more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finished.wait()


class FrameStream:
    """One client's frames and their answers.

    ``recognize`` answers a frame, given where faces are likely; with none the whole frame is looked
    at. What it raises becomes the frame's outcome.
    """

    def __init__(
        self,
        recognize: Callable[[bytes, Sequence[Box]], Awaitable[Recognition]],
        memory: UploadBudget,
        smoothing_seconds: float,
        metrics: Metrics,
    ) -> None:
        self._recognize = recognize
        self._metrics = metrics
        self._frames = NewestFrame(memory, metrics)
        self._tracker = FaceTracker(smoothing_seconds)
        self._answered = 0
        self._stopped: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    @property
    def counts(self) -> StreamCounts:
        """What became of the frames; they add up once ``run`` has ended."""
        return StreamCounts(
            received=self._frames.received, answered=self._answered, dropped=self._frames.dropped
        )

    def stop(self, end: End) -> None:
        """Ends the stream, once what was received is answered; from the event loop's thread."""
        if not self._stopped.done():
            self._stopped.set_result(end)

    async def run(
        self,
        receive: Callable[[], Awaitable[bytes | None]],
        send: Callable[[FrameAnswer], Awaitable[None]],
    ) -> End:
        """Answers frames until the client, a limit or the service ends the stream.

        ``receive`` waits for a frame, None after the last. It may raise ``ConnectionError``, as
        ``send`` may, and ``MalformedRequest``.
        """
        answering = asyncio.create_task(self._answer_all(send))
        answering.add_done_callback(lambda _: self.stop(End.FAILED))
        end = End.FAILED
        try:
            end = await self._read(receive)
            self._frames.finish()
            if end is not End.CLIENT_LEFT:
                await answering
            return end
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            self._frames.drop()
            self._metrics.stream_ended(end.value)

    async def _read(self, receive: Callable[[], Awaitable[bytes | None]]) -> End:
        """Takes frames as they come, however long answers take, until there is a reason to end."""
        last_moment = monotonic() + MAX_SECONDS
        while True:
            coming = asyncio.ensure_future(receive())
            events: set[asyncio.Future[Any]] = {coming, self._stopped}
            patience = min(IDLE_SECONDS, last_moment - monotonic())
            try:
                await asyncio.wait(events, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    frame = coming.result()
                    if frame is None:
                        return End.FINISHED
                    self._frames.put(frame)
                    del frame  # or it would stay until the next one comes
            except ConnectionError:
                return End.CLIENT_LEFT
            except MalformedRequest:
                return End.UNKNOWN_MESSAGE
            finally:
                came = coming.done()
                coming.cancel()
            if self._stopped.done():
                return self._stopped.result()
            if monotonic() >= last_moment:
                return End.TOO_LONG
            if not came:
                return End.IDLE

    async def _answer_all(self, send: Callable[[FrameAnswer], Awaitable[None]]) -> None:
        due = 0.0
        while frame := await self._frames.get():
            begin, due = due, max(due, monotonic()) + 1 / MAX_FPS
            try:
                await self._answer(frame, send, begin)
                del frame
            except ConnectionError:
                self.stop(End.CLIENT_LEFT)
                break
            except TimeoutError:  # the client takes no answers
                self.stop(End.IDLE)
                break

    async def _answer(
        self, frame: Frame, send: Callable[[FrameAnswer], Awaitable[None]], begin: float
    ) -> None:
        """Answers a frame, or counts it as dropped where that was not possible."""
        try:
            answer = await self._look_at(frame, begin)
            async with asyncio.timeout(IDLE_SECONDS):
                await send(answer)
        except BaseException:
            self._frames.count_dropped()
            raise
        finally:
            self._frames.release(frame)
        self._answered += 1
        refused = isinstance(answer.outcome, Exception)
        self._metrics.frame_answered(monotonic() - frame.arrived, refused=refused)

    async def _look_at(self, frame: Frame, begin: float) -> FrameAnswer:
        """Answers a frame, not before ``begin``.

        It waits here, where no newer one takes its place: so a client with two unanswered frames
        loses none, however fast the answers are.
        """
        dropped = self._frames.dropped
        await self._frames.pause(begin - monotonic())
        outcome: Recognition | Exception
        try:
            if frame.refusal:
                raise frame.refusal
            seen = await self._recognize(frame.data, self._tracker.near(frame.arrived))
            outcome = self._tracker.track_faces(seen, frame.arrived)
        except Exception as error:
            outcome = without_frames(error)
        return FrameAnswer(frame.number, dropped, outcome)


class Streams:
    """The open streams of an application."""

    def __init__(self, max_streams: int, metrics: Metrics) -> None:
        self._max_streams = max_streams
        self._open: set[FrameStream] = set()
        self._closing = False
        metrics.watch("streams_open", "Streams open now.", lambda: len(self._open))

    @contextmanager
    def place(self, stream: FrameStream) -> Iterator[None]:
        """Holds a place for a stream; QueueFull where there is none, NotReady at the end."""
        if self._closing:
            raise NotReady("the service is shutting down")
        if len(self._open) >= self._max_streams:
            raise QueueFull(f"{len(self._open)} streams are open; there is no place for more")
        self._open.add(stream)
        try:
            yield
        finally:
            self._open.discard(stream)

    def begin_close(self) -> None:
        """Ends all streams, once what was received is answered, and takes no more."""
        self._closing = True
        for stream in self._open:
            stream.stop(End.SHUTDOWN)
