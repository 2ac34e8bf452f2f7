"""The pool for decoding with plain functions, which are held with events."""

import asyncio
import threading
from time import monotonic, thread_time

import pytest
from ferserve.errors import (
    DeadlineExceeded,
    NotReady,
    QueueFull,
    TooManyImages,
    TooManyPixels,
)
from ferserve.metrics import Metrics
from ferserve.pool import DecodeMemory, Share, WorkPool
from waiting import until

PATIENCE = 10.0


class Heard(Metrics):
    """Notes what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def image_dropped(self, reason: str) -> None:
        self.events.append(reason)


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def soon() -> float:
    return monotonic() + PATIENCE


async def started(pool: WorkPool, work, deadline: float | None = None) -> asyncio.Task:
    task = asyncio.create_task(pool.run(work, deadline or soon()))
    await asyncio.sleep(0)
    return task


async def test_results_and_errors_come_back(heard):
    pool = WorkPool(1, 2, heard, PATIENCE)
    assert await pool.run(lambda: 42, soon()) == 42
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 / 0, soon())
    assert (pool.under_way, heard.events) == (0, [])
    await pool.close()


async def test_beyond_its_places_work_is_refused(heard, gate):
    pool = WorkPool(1, 2, heard, PATIENCE)
    tasks = [await started(pool, gate.wait) for _ in range(2)]
    with pytest.raises(QueueFull):
        await pool.run(gate.wait, soon())
    gate.set()
    assert await asyncio.gather(*tasks) == [True, True]
    assert heard.events == ["rejected"]
    await pool.close()


async def test_work_that_would_wait_past_its_deadline_is_refused_at_once(heard, gate):
    pool = WorkPool(1, 100, heard, PATIENCE)
    pool._mean_seconds = 3.0  # as after work that took that long
    tasks = [await started(pool, gate.wait) for _ in range(2)]  # the second waits 3 s of its 10
    with pytest.raises(QueueFull):
        await pool.run(gate.wait, monotonic() + 5)  # two turns, 6 s
    tasks.append(await started(pool, gate.wait))
    with pytest.raises(QueueFull):
        await pool.run(gate.wait, soon())  # three turns, 9 s, and nothing left for the work
    gate.set()
    await asyncio.gather(*tasks)
    assert heard.events == ["rejected", "rejected"]
    await pool.close()


async def test_the_estimate_follows_what_work_takes(heard):
    pool = WorkPool(1, 100, heard, PATIENCE)
    before = pool._mean_seconds
    for _ in range(5):
        await pool.run(lambda: threading.Event().wait(0.01), soon())
    assert before == 0
    assert pool._mean_seconds >= 0.004
    await pool.close()


async def test_an_idle_pool_takes_work_with_any_deadline(heard, gate):
    pool = WorkPool(1, 1, heard, PATIENCE)
    pool._mean_seconds = 100.0
    with pytest.raises(DeadlineExceeded):
        await pool.run(gate.wait, monotonic() + 0.01)
    gate.set()
    assert heard.events == ["expired"]
    await pool.close()


async def test_work_whose_time_is_over_is_not_begun(heard):
    pool = WorkPool(1, 1, heard, PATIENCE)
    done = []
    with pytest.raises(DeadlineExceeded):
        await pool.run(lambda: done.append("late"), monotonic() - 1)
    assert (done, heard.events, pool.under_way) == ([], ["expired"], 0)
    await pool.close()


async def test_who_leaves_while_waiting_is_not_worked_for(heard, gate):
    pool = WorkPool(1, 3, heard, PATIENCE)
    done = []
    busy = await started(pool, gate.wait)
    leaver = await started(pool, lambda: done.append("leaver"))
    stayer = await started(pool, lambda: done.append("stayer"))
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    gate.set()
    await asyncio.gather(busy, stayer)
    assert (done, heard.events, pool.under_way) == (["stayer"], ["cancelled"], 0)
    await pool.close()


async def test_a_thread_that_runs_on_after_its_caller_left_keeps_its_place(heard, gate):
    pool = WorkPool(1, 1, heard, PATIENCE)
    with pytest.raises(DeadlineExceeded):
        await pool.run(gate.wait, monotonic() + 0.5)
    assert pool.under_way == 1
    with pytest.raises(QueueFull):
        await pool.run(lambda: None, soon())
    gate.set()
    await until(lambda: pool.under_way == 0)
    assert await pool.run(lambda: "next", soon()) == "next"
    await pool.close()


async def test_while_every_thread_is_overdue_work_is_refused_at_once(heard, gate):
    pool = WorkPool(2, 100, heard, longest=2)
    tasks = [await started(pool, gate.wait, monotonic() + 0.5) for _ in range(2)]
    assert not pool.overdue
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded, DeadlineExceeded]
    await until(lambda: pool.overdue)
    with pytest.raises(QueueFull):
        await pool.run(lambda: None, soon())
    gate.set()
    await until(lambda: not pool.overdue)
    assert await pool.run(lambda: "next", soon()) == "next"
    await pool.close()


async def test_one_thread_that_is_in_time_is_enough(heard, gate):
    pool = WorkPool(2, 100, heard, longest=0.1)
    with pytest.raises(DeadlineExceeded):
        await pool.run(gate.wait, monotonic() + 0.5)
    assert not pool.overdue
    assert await pool.run(lambda: "meanwhile", soon()) == "meanwhile"
    gate.set()
    await pool.close()


async def test_once_it_closes_work_is_not_ready_rather_than_lost(heard, gate):
    pool, begun = WorkPool(1, 3, heard, PATIENCE), threading.Event()
    runs = await started(pool, lambda: begun.set() or gate.wait())
    await until(begun.is_set)
    waits = await started(pool, lambda: None)
    closing = asyncio.create_task(pool.close())
    with pytest.raises(NotReady):
        await waits
    with pytest.raises(NotReady):
        await pool.run(lambda: None, soon())
    gate.set()
    assert await runs
    await closing
    assert pool.under_way == 0


async def test_it_closes_though_the_interpreter_ended_its_threads(heard):
    pool = WorkPool(1, 3, heard, PATIENCE)
    pool._executor.shutdown()
    with pytest.raises(RuntimeError):
        await pool.run(lambda: None, soon())
    async with asyncio.timeout(1):
        await pool.close()


MEBI = 1024 * 1024


async def test_memory_is_waited_for_and_given_back():
    memory = DecodeMemory(10 * MEBI)
    order = []

    def wait() -> None:
        with memory.reserve(8 * MEBI):
            order.append("second")

    with memory.reserve(6 * MEBI):
        waiting = asyncio.create_task(asyncio.to_thread(wait))
        with memory.reserve(4 * MEBI):
            await asyncio.sleep(0)
        order.append("first")
    await waiting
    assert order == ["first", "second"]


async def test_an_image_that_finds_no_memory_is_counted_as_rejected(heard):
    pool, memory = WorkPool(1, 1, heard, PATIENCE), DecodeMemory(2 * MEBI)
    with memory.reserve(2 * MEBI), pytest.raises(QueueFull):
        await pool.run(lambda: memory.reserve(2 * MEBI, deadline=0).__enter__(), soon())
    assert heard.events == ["rejected"]
    await pool.close()


def test_memory_that_is_not_free_in_time_is_refused():
    memory = DecodeMemory(10 * MEBI)
    with memory.reserve(6 * MEBI), pytest.raises(QueueFull):
        memory.reserve(5 * MEBI, deadline=monotonic() + 0.1).__enter__()
    with memory.reserve(10 * MEBI):
        pass


def test_more_memory_than_there_ever_is_is_too_many_pixels():
    memory = DecodeMemory(10 * MEBI)
    words = "take 11 MiB; FERSERVE_DECODE_MEMORY_BYTES allows 10 MiB"
    with pytest.raises(TooManyPixels, match=words), memory.reserve(10 * MEBI + 1):
        pass


def test_memory_in_doubt_is_waited_for_but_never_too_much():
    memory, late = DecodeMemory(10 * MEBI), monotonic() + 0.1
    with memory.reserve(2 * MEBI, doubt=50 * MEBI), pytest.raises(QueueFull):
        memory.reserve(2 * MEBI, deadline=late).__enter__()
    with memory.reserve(2 * MEBI), pytest.raises(QueueFull):
        memory.reserve(2 * MEBI, doubt=50 * MEBI, deadline=late).__enter__()


def test_work_in_doubt_is_what_it_took():
    memory, share = DecodeMemory(MEBI), Share(100_000)  # 3 ms
    with memory.reserve(1, 1, share=share):
        pass
    with memory.reserve(1, 1, doubt=1, share=share):
        begun = thread_time()
        while thread_time() - begun < 0.01:
            pass
    with pytest.raises(TooManyImages):
        share.take(1)


def test_small_pictures_never_wait():
    memory = DecodeMemory(2 * MEBI)
    with memory.reserve(2 * MEBI), memory.reserve(MEBI):
        pass


def test_a_share_is_taken_until_nothing_is_left():
    memory, share = DecodeMemory(MEBI), Share(10)
    with memory.reserve(1, 9, share=share), memory.reserve(1, 9, share=share):
        pass  # whatever is first in a request is never too much for it
    with pytest.raises(TooManyImages), memory.reserve(1, 1, share=share):
        pass
    with memory.reserve(1, 1, share=Share(10)):
        pass
