"""The loop that answers a stream's frames, without HTTP and without a model."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Sequence

import pytest
from ferserve import streaming
from ferserve.errors import MalformedRequest, NotReady, QueueFull, UndecodableImage
from ferserve.metrics import Metrics
from ferserve.schemas import (
    Box,
    FaceEmotion,
    ImageInfo,
    ModelReference,
    Recognition,
    StreamCounts,
    Timing,
)
from ferserve.streaming import End, FrameAnswer, FrameStream, Streams
from waiting import until


def recognition(x: int = 0) -> Recognition:
    box = Box(x=x, y=0, width=100, height=100)
    face = FaceEmotion(
        box=box,
        face_confidence=1,
        dominant_emotion="happy",
        confidence=1,
        emotions={"happy": 1.0},
        warnings=[],
    )
    return Recognition(
        model=ModelReference(name="model", version="1", sha256="0"),
        image=ImageInfo(width=500, height=100, format="JPEG", exif_orientation=1),
        faces=[face],
        timing_ms=Timing(decode=0, detect=0, queue=0, inference=0, total=0),
    )


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(streaming, "MAX_FPS", 1e9)


class Memory:
    """Room for a number of bytes."""

    def __init__(self, size: int = 1000) -> None:
        self.left = size

    def take(self, count: int) -> None:
        if count > self.left:
            raise MemoryError
        self.left -= count

    def give_back(self, count: int) -> None:
        self.left += count


class Observer(Metrics):
    """Remembers what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = self.refused = self.dropped = 0
        self.ends: list[str] = []

    def stream_ended(self, reason: str) -> None:
        self.ends.append(reason)

    def frame_answered(self, seconds: float, *, refused: bool) -> None:
        self.answered += 1
        self.refused += refused

    def frame_dropped(self) -> None:
        self.dropped += 1


class Client:
    """A stream with both of its ends in the test's hand.

    Attributes:
        work: Frames are recognised while it is set.
        taking: Answers are taken while it is set.
        fault: What sending an answer raises.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory, self.observer = memory or Memory(), Observer()
        self.work, self.taking = asyncio.Event(), asyncio.Event()
        self.work.set()
        self.taking.set()
        self.begun: list[bytes] = []
        self.answers: list[FrameAnswer] = []
        self.fault: Exception | None = None
        self._messages: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.stream = FrameStream(self._recognize, self.memory, 0.5, self.observer)
        self.running = asyncio.create_task(self.stream.run(self._receive, self._send))

    async def send(self, *messages: bytes | Exception | None) -> None:
        """Sends them all and waits until they were received."""
        for message in messages:
            self._messages.put_nowait(message)
        await until(self._messages.empty)
        await asyncio.sleep(0)

    async def ended(self) -> End:
        async with asyncio.timeout(20):
            return await self.running

    async def _receive(self) -> bytes | None:
        message = await self._messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def _recognize(self, data: bytes, near: Sequence[Box]) -> Recognition:
        self.begun.append(data)
        await self.work.wait()
        if data == b"bad":
            raise ValueError("bad")
        if data.startswith(b"refused"):
            raise UndecodableImage("refused")
        return recognition()

    async def _send(self, answer: FrameAnswer) -> None:
        await self.taking.wait()
        if self.fault:
            raise self.fault
        self.answers.append(answer)

    def assert_counts_add_up(self) -> None:
        counts, seen = self.stream.counts, self.observer
        assert counts.received == counts.answered + counts.dropped
        assert (counts.answered, counts.dropped) == (seen.answered, seen.dropped)
        assert self.memory.left == 1000


def places(answers: list[FrameAnswer]) -> list[tuple[int, int]]:
    return [(answer.frame, answer.dropped) for answer in answers]


async def test_frames_that_come_one_by_one_are_all_answered():
    client = Client()
    for number in range(1, 4):
        await client.send(b"frame")
        await until(lambda number=number: len(client.answers) == number)
    await client.send(None)
    assert await client.ended() is End.FINISHED
    assert places(client.answers) == [(1, 0), (2, 0), (3, 0)]
    assert [answer.outcome.faces[0].track for answer in client.answers] == [1, 1, 1]
    client.assert_counts_add_up()


async def test_the_newest_frame_wins():
    client = Client()
    client.work.clear()
    await client.send(b"1")
    await until(lambda: client.begun)
    await client.send(b"2", b"3", b"4", b"5")
    client.work.set()
    await client.send(None)
    assert await client.ended() is End.FINISHED
    assert client.begun == [b"1", b"5"]
    assert places(client.answers) == [(1, 0), (5, 3)]
    assert client.stream.counts == StreamCounts(received=5, answered=2, dropped=3)
    client.assert_counts_add_up()


async def test_frames_are_received_while_the_client_takes_no_answers():
    client = Client()
    client.taking.clear()
    await client.send(b"1")
    await until(lambda: client.begun)
    await client.send(b"2", b"3")
    client.taking.set()
    await client.send(None)
    await client.ended()
    assert places(client.answers) == [(1, 0), (3, 1)]
    client.assert_counts_add_up()


async def test_a_bad_frame_costs_neither_the_others_nor_the_track():
    client = Client()
    for frame in (b"good", b"bad", b"good"):
        await client.send(frame)
        await until(lambda: len(client.answers) == len(client.begun) > 0)
    await client.send(None)
    await client.ended()
    first, second, third = client.answers
    assert isinstance(second.outcome, ValueError)
    assert [answer.outcome.faces[0].track for answer in (first, third)] == [1, 1]
    assert client.observer.refused == 1
    client.assert_counts_add_up()


@pytest.mark.parametrize("kind", [b"answered", b"refused"])
async def test_an_open_stream_keeps_no_frame_after_its_answer(kind):
    client = Client(Memory(10_000_000))
    gc.collect()
    gc.disable()  # nothing may wait for it
    tracemalloc.start()
    try:
        for number in range(1, 6):
            await client.send(kind.ljust(1_000_000))
            await until(lambda number=number: len(client.answers) == number)
            await asyncio.sleep(0)
            client.begun.clear()
            assert tracemalloc.get_traced_memory()[0] < 900_000
    finally:
        tracemalloc.stop()
        gc.enable()
    await client.send(None)
    await client.ended()


async def test_a_frame_without_room_is_answered_in_its_turn():
    client = Client()
    client.work.clear()
    await client.send(bytes(600))
    await until(lambda: client.begun)
    await client.send(bytes(600))
    client.work.set()
    await client.send(None)
    await client.ended()
    assert [type(answer.outcome) for answer in client.answers] == [Recognition, MemoryError]
    client.assert_counts_add_up()


async def test_frames_beyond_the_rate_are_dropped(monkeypatch):
    monkeypatch.setattr(streaming, "MAX_FPS", 1e-6)
    client = Client()
    await client.send(b"1")
    await until(lambda: client.answers)
    await client.send(b"2")
    await until(lambda: client.stream.counts.received == 2)
    await asyncio.sleep(0)  # now it is taken
    await client.send(b"3", b"4")
    assert len(client.answers) == 1
    await client.send(None)  # the last one is answered without a pause
    await client.ended()
    assert places(client.answers) == [(1, 0), (2, 0), (4, 1)]
    client.assert_counts_add_up()


async def test_a_client_with_two_unanswered_frames_loses_none_however_fast_the_answers(monkeypatch):
    monkeypatch.setattr(streaming, "MAX_FPS", 1e-6)
    client = Client()
    client.work.clear()
    await client.send(b"1")
    await until(lambda: client.begun)
    await client.send(b"2")
    client.work.set()
    await until(lambda: client.answers)
    await client.send(b"3")
    await client.send(None)
    await client.ended()
    assert places(client.answers) == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize("also_waiting", [False, True])
async def test_a_client_that_leaves_leaves_nothing_behind(also_waiting):
    client = Client()
    client.work.clear()
    await client.send(b"1")
    await until(lambda: client.begun)
    if also_waiting:
        await client.send(b"2")
    await client.send(ConnectionError())
    assert await client.ended() is End.CLIENT_LEFT
    assert client.answers == []
    assert client.stream.counts.dropped == 1 + also_waiting
    client.assert_counts_add_up()
    assert client.observer.ends == ["client_left"]


async def test_a_client_that_cannot_be_sent_to_has_left():
    client = Client()
    client.fault = ConnectionError()
    await client.send(b"1")
    assert await client.ended() is End.CLIENT_LEFT
    client.assert_counts_add_up()


def stop(client: Client) -> None:
    client.stream.stop(End.SHUTDOWN)


def other_message(client: Client) -> None:
    client._messages.put_nowait(MalformedRequest("no frame"))


@pytest.mark.parametrize(
    ("limits", "end_it", "end"),
    [
        ({}, stop, End.SHUTDOWN),
        ({}, other_message, End.UNKNOWN_MESSAGE),
        ({"IDLE_SECONDS": 2}, lambda client: None, End.IDLE),
        ({"MAX_SECONDS": 2}, lambda client: None, End.TOO_LONG),
    ],
    ids=["shutdown", "unknown message", "idle", "too long"],
)
async def test_what_was_received_is_answered_at_the_end(
    monkeypatch, limits: dict[str, float], end_it: Callable[[Client], None], end: End
):
    for name, value in limits.items():
        monkeypatch.setattr(streaming, name, value)
    client = Client()
    client.work.clear()
    await client.send(b"1")
    await until(lambda: client.begun)
    await client.send(b"2")
    end_it(client)
    await until(lambda: client.stream._frames._finished.is_set())
    client.work.set()
    assert await client.ended() is end
    assert places(client.answers) == [(1, 0), (2, 0)]
    client.assert_counts_add_up()
    assert client.observer.ends == [end.value]


async def test_a_client_that_takes_no_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(streaming, "IDLE_SECONDS", 0.2)
    client = Client()
    client.taking.clear()
    await client.send(b"1")
    assert await client.ended() is End.IDLE
    client.assert_counts_add_up()


async def test_a_fault_in_the_loop_ends_the_stream():
    client = Client()
    client.fault = RuntimeError("a fault")
    await client.send(b"1")
    with pytest.raises(RuntimeError, match="a fault"):
        await client.ended()
    client.assert_counts_add_up()
    assert client.observer.ends == ["failed"]


async def test_there_are_places_for_a_number_of_streams_until_the_end():
    first, second = Client(), Client()
    streams = Streams(1, Observer())
    with streams.place(first.stream):
        with pytest.raises(QueueFull), streams.place(second.stream):
            pass
        streams.begin_close()
        assert await first.ended() is End.SHUTDOWN
    with pytest.raises(NotReady), streams.place(second.stream):
        pass
    second.stream.stop(End.SHUTDOWN)
    await second.ended()
