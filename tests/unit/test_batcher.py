"""The batcher with plain functions; threads and event loop are real.

Workers are held with events, never with sleeps, so that every order of events is forced.
"""

import asyncio
import logging
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from ferserve.batcher import Answer, Batcher, Lane
from ferserve.errors import DeadlineExceeded, InternalError, NotReady, QueueFull
from waiting import until

PATIENCE = 10.0


def soon() -> float:
    return monotonic() + PATIENCE


class Recorder:
    """Doubles numbers, notes every batch, and waits at a gate while it is shut."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        return [2 * item for item in items]

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE)


@asynccontextmanager
async def batching(run: Callable[[list[int]], list[int]], **options) -> AsyncIterator[Batcher]:
    batcher = Batcher(run, **options)
    batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(run, Recorder):
            run.gate.set()
        await batcher.close()


async def submitted(
    batcher: Batcher, items: list[int], deadline: float | None = None, lane: Lane = Lane.LIVE
):
    """Starts a submission and lets it reach the queue."""
    task = asyncio.create_task(batcher.submit(items, deadline or soon(), lane))
    await asyncio.sleep(0)
    return task


def values(answers: list[Answer[int]]) -> list[int]:
    return [answer.value for answer in answers]


async def test_a_lone_item_is_answered():
    run = Recorder()
    async with batching(run) as batcher:
        (answer,) = await batcher.submit([21], soon())
    assert answer.value == 42
    assert answer.queue_seconds >= 0
    assert answer.inference_seconds >= 0
    assert run.batches == [[21]]


class Crop:
    """Something that can be watched."""


async def test_an_idle_worker_keeps_nothing_of_its_last_batch():
    crop = Crop()
    kept = weakref.ref(crop)
    async with batching(lambda items: [None] * len(items)) as batcher:
        await batcher.submit([crop], soon())
        del crop
        await until(lambda: kept() is None)


async def test_nothing_is_answered_with_nothing():
    async with batching(Recorder()) as batcher:
        assert await batcher.submit([], soon()) == []


async def test_what_came_while_the_worker_was_busy_becomes_one_batch():
    run = Recorder()
    async with batching(run) as batcher:
        run.gate.clear()
        first = await submitted(batcher, [1])
        await run.until_entered()
        others = [await submitted(batcher, [n]) for n in (2, 3, 4)]
        run.gate.set()
        assert values(await first) == [2]
        assert [values(await other) for other in others] == [[4], [6], [8]]
    assert run.batches == [[1], [2, 3, 4]]


async def test_queue_time_counts_from_arrival():
    run = Recorder()
    async with batching(run) as batcher:
        run.gate.clear()
        first = await submitted(batcher, [1])
        await run.until_entered()
        second = await submitted(batcher, [2])
        await asyncio.sleep(0.05)
        run.gate.set()
        (held,) = await first
        (waited,) = await second
    assert held.inference_seconds >= 0.05
    assert waited.queue_seconds >= 0.05


async def test_more_than_a_batch_is_spread_over_several_and_answered_in_order():
    run = Recorder()
    async with batching(run, max_batch=3) as batcher:
        assert values(await batcher.submit(list(range(8)), soon())) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert run.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize("lane", Lane)
async def test_free_workers_share_what_waits(lane):
    run = Recorder()
    async with batching(run, workers=2) as batcher:
        run.gate.clear()
        task = await submitted(batcher, [1, 2, 3, 4], math.inf, lane)
        await run.until_entered()
        await run.until_entered()
        run.gate.set()
        assert values(await task) == [2, 4, 6, 8]
    assert sorted(len(batch) for batch in run.batches) in ([1, 3], [2, 2], [1, 1, 2])


async def test_many_submissions_over_many_workers_each_get_their_own_answer():
    async with batching(lambda items: [2 * n for n in items], workers=4, max_queue=3000) as batcher:
        answers = await asyncio.gather(*(batcher.submit([n, -n], soon()) for n in range(1000)))
    assert [values(answer) for answer in answers] == [[2 * n, -2 * n] for n in range(1000)]


async def test_an_opted_in_delay_fills_the_batch():
    run = Recorder()
    async with batching(run, max_batch=2, max_wait=PATIENCE) as batcher:
        first = await submitted(batcher, [1])
        second = await submitted(batcher, [2])
        assert values(await first) == [2]
        assert values(await second) == [4]
    assert run.batches == [[1, 2]]


async def test_an_opted_in_delay_ends():
    run = Recorder()
    async with batching(run, max_batch=2, max_wait=0.02) as batcher:
        (answer,) = await batcher.submit([1], soon())
    assert answer.queue_seconds >= 0.02
    assert run.batches == [[1]]


async def test_a_full_queue_refuses_all_items_of_a_submission():
    run = Recorder()
    async with batching(run, max_queue=2) as batcher:
        run.gate.clear()
        busy = await submitted(batcher, [0])
        await run.until_entered()
        waiting = await submitted(batcher, [1])
        with pytest.raises(QueueFull):
            await batcher.submit([2, 3], soon())
        fits = await submitted(batcher, [4])
        run.gate.set()
        assert [values(await task) for task in (busy, waiting, fits)] == [[0], [2], [8]]
    assert run.batches == [[0], [1, 4]]


async def test_those_who_left_hold_no_places_and_are_not_computed():
    run = Recorder()
    async with batching(run, max_queue=2) as batcher:
        run.gate.clear()
        busy = await submitted(batcher, [0])
        await run.until_entered()
        left = await submitted(batcher, [1, 2])
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        stayed = await submitted(batcher, [3, 4])
        run.gate.set()
        assert values(await busy) == [0]
        assert values(await stayed) == [6, 8]
    assert run.batches == [[0], [3, 4]]


async def test_leaving_during_the_computation_harms_nobody():
    run = Recorder()
    async with batching(run) as batcher:
        run.gate.clear()
        busy = await submitted(batcher, [0])
        await run.until_entered()
        leaver = await submitted(batcher, [1])
        neighbour = await submitted(batcher, [2])
        run.gate.set()
        await busy
        leaver.cancel()
        assert values(await neighbour) == [4]
        assert batcher.healthy


async def test_a_deadline_is_kept_even_while_every_worker_is_busy():
    run = Recorder()
    async with batching(run) as batcher:
        run.gate.clear()
        busy = await submitted(batcher, [0])
        await run.until_entered()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit([1], monotonic() + 0.01)
        run.gate.set()
        assert values(await busy) == [0]
        assert values(await batcher.submit([2], soon())) == [4]
    assert run.batches == [[0], [2]]


async def test_a_deadline_that_has_passed_is_never_computed():
    run = Recorder()
    async with batching(run) as batcher:
        with pytest.raises(DeadlineExceeded):
            await batcher.submit([1], monotonic() - 1)
        assert values(await batcher.submit([2], soon())) == [4]
    assert run.batches in ([[2]], [[], [2]])


async def test_a_failing_batch_fails_only_its_own_submissions():
    def fragile(items: list[int]) -> list[int]:
        if 13 in items:
            raise ValueError("thirteen")
        return items

    async with batching(fragile) as batcher:
        with pytest.raises(InternalError) as failure:
            await batcher.submit([13], soon())
        assert isinstance(failure.value.__cause__, ValueError)
        assert values(await batcher.submit([1, 2], soon())) == [1, 2]
        assert batcher.healthy


async def test_a_function_that_loses_results_fails_its_batch():
    async with batching(lambda items: items[1:]) as batcher:
        with pytest.raises(InternalError):
            await batcher.submit([1, 2], soon())


async def test_a_dead_worker_fails_everything_that_waits_and_is_seen(monkeypatch, caplog):
    monkeypatch.setattr("ferserve.batcher.RESTART_SECONDS", 60)
    run = Recorder()

    def deadly(items: list[int]) -> list[int]:
        run(items)
        raise SystemExit

    batcher = Batcher(deadly)
    batcher.start()
    run.gate.clear()
    in_the_batch = await submitted(batcher, [1])
    await run.until_entered()
    waiting = await submitted(batcher, [2])
    assert batcher.healthy
    with caplog.at_level(logging.CRITICAL):
        run.gate.set()
        for task in (in_the_batch, waiting):
            with pytest.raises(NotReady, match="died"):
                await task
    assert not batcher.healthy
    assert "a worker died" in caplog.text
    with pytest.raises(NotReady):
        await batcher.submit([3], soon())
    await batcher.close()
    assert run.batches == [[1]]


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_dead_worker_is_replaced_and_items_are_taken_again(monkeypatch, caplog, workers):
    monkeypatch.setattr("ferserve.batcher.RESTART_SECONDS", 0.3)
    deaths = iter([SystemExit, KeyboardInterrupt])

    def deadly(items: list[int]) -> list[int]:
        for death in deaths:
            raise death
        return items

    async with batching(deadly, workers=workers) as batcher:
        for _ in range(2):
            with pytest.raises(NotReady):
                await batcher.submit([1], soon())
            assert not batcher.healthy
            await until(lambda: batcher.healthy)
        answers = await asyncio.gather(*(batcher.submit([n], soon()) for n in range(50)))
    assert [values(answer) for answer in answers] == [[n] for n in range(50)]
    assert caplog.text.count("a worker died: batcher-") == 2
    assert "was restarted" in caplog.text


async def test_a_batcher_whose_worker_died_can_be_closed_at_once():
    def deadly(items: list[int]) -> list[int]:
        raise SystemExit

    batcher = Batcher(deadly)
    batcher.start()
    with pytest.raises(NotReady):
        await batcher.submit([1], soon())
    await batcher.close()
    assert not batcher.healthy


async def test_closing_ends_the_running_batch_and_fails_the_waiting():
    run = Recorder()
    batcher = Batcher(run)
    batcher.start()
    run.gate.clear()
    running = await submitted(batcher, [1])
    await run.until_entered()
    waiting = [await submitted(batcher, [2], lane=lane) for lane in Lane]
    closing = asyncio.create_task(batcher.close())
    for task in waiting:
        with pytest.raises(NotReady):
            await task
    run.gate.set()
    await closing
    assert values(await running) == [2]
    assert not batcher.healthy
    with pytest.raises(NotReady):
        await batcher.submit([3], soon())


# The background lane


async def test_background_items_wait_while_a_live_one_does():
    run = Recorder()
    async with batching(run, max_batch=2) as batcher:
        run.gate.clear()
        busy = await submitted(batcher, [0])
        await run.until_entered()
        background = await submitted(batcher, [10, 11], lane=Lane.BACKGROUND)
        live = await submitted(batcher, [1, 2, 3])
        run.gate.set()
        assert values(await live) == [2, 4, 6]
        assert values(await background) == [20, 22]
        await busy
    assert run.batches == [[0], [1, 2], [3], [10, 11]]


async def test_a_live_item_waits_for_one_background_batch_at_most():
    run = Recorder()
    async with batching(run, max_batch=32, max_background_batch=2) as batcher:
        run.gate.clear()
        background = await submitted(batcher, [10, 11, 12, 13], lane=Lane.BACKGROUND)
        await run.until_entered()
        live = await submitted(batcher, [1])
        run.gate.set()
        assert values(await live) == [2]
        assert values(await background) == [20, 22, 24, 26]
    assert run.batches == [[10, 11], [1], [12, 13]]


async def test_each_lane_has_its_own_places():
    run = Recorder()
    async with batching(run, max_queue=1, max_background_queue=2) as batcher:
        run.gate.clear()
        busy = await submitted(batcher, [0])
        await run.until_entered()
        background = await submitted(batcher, [10, 11], lane=Lane.BACKGROUND)
        with pytest.raises(QueueFull):
            await batcher.submit([12], soon(), Lane.BACKGROUND)
        live = await submitted(batcher, [1])
        with pytest.raises(QueueFull):
            await batcher.submit([2], soon())
        run.gate.set()
        assert [values(await t) for t in (busy, live, background)] == [[0], [2], [20, 22]]


async def test_an_opted_in_delay_holds_the_background_back_but_never_delays_it_alone():
    run = Recorder()
    async with batching(run, max_batch=2, max_wait=PATIENCE) as batcher:
        assert values(await batcher.submit([10], soon(), Lane.BACKGROUND)) == [20]
        first = await submitted(batcher, [1])
        background = await submitted(batcher, [11], lane=Lane.BACKGROUND)
        second = await submitted(batcher, [2])
        assert [values(await t) for t in (first, second, background)] == [[2], [4], [22]]
    assert run.batches == [[10], [1, 2], [11]]


async def test_a_batcher_that_was_not_started_takes_nothing():
    batcher = Batcher(Recorder())
    assert not batcher.healthy
    with pytest.raises(NotReady):
        await batcher.submit([1], soon())
    await batcher.close()


# Lingering


async def test_a_worker_waits_for_as_many_as_it_has_just_answered():
    run = Recorder()
    async with batching(run, linger=1e6) as batcher:
        await batcher.submit([1, 2, 3], soon())
        callers = [await submitted(batcher, [item]) for item in (4, 5)]
        await asyncio.sleep(0.05)
        assert run.batches == [[1, 2, 3]]
        callers.append(await submitted(batcher, [6]))
        await asyncio.gather(*callers)
    assert run.batches == [[1, 2, 3], [4, 5, 6]]


async def test_it_does_not_wait_for_ever():
    run = Recorder()
    async with batching(run, linger=1.0) as batcher:
        await batcher.submit([1, 2, 3], soon())
        assert values(await batcher.submit([4], soon())) == [8]
    assert run.batches == [[1, 2, 3], [4]]


async def test_after_a_lone_item_nothing_is_waited_for():
    run = Recorder()
    async with batching(run, linger=1e6) as batcher:
        await batcher.submit([1], soon())
        await batcher.submit([2], soon())
    assert run.batches == [[1], [2]]


async def test_background_items_are_not_waited_for():
    run = Recorder()
    async with batching(run, linger=1e6) as batcher:
        await batcher.submit([1, 2, 3], soon(), Lane.BACKGROUND)
        await batcher.submit([4], soon(), Lane.BACKGROUND)
    assert run.batches == [[1, 2, 3], [4]]


async def test_closing_ends_the_wait():
    run = Recorder()
    async with batching(run, linger=1e6) as batcher:
        await batcher.submit([1, 2], soon())
        waiting = await submitted(batcher, [3])
        await asyncio.sleep(0.05)
        await batcher.close()
        with pytest.raises(NotReady):
            await waiting


# One by one


async def test_items_that_wait_to_fill_a_batch_are_not_taken_one_by_one():
    run = Recorder()
    async with batching(run, max_batch=4, max_wait=PATIENCE, one_by_one=4) as batcher:
        assert values(await batcher.submit([1, 2, 3, 4], soon())) == [2, 4, 6, 8]
    assert run.batches == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("one_by_one", "waiting", "expected"),
    [
        (0, 3, [3]),  # the busy worker has no share
        (1, 3, [2, 1]),
        (2, 3, [1, 1, 1]),
        (2, 7, [3, 1, 1, 1, 1]),
        (4, 8, [1] * 8),
        (1, 40, [16, 12, 6, 3, 2, 1]),  # no more than a batch holds
    ],
)
async def test_busy_workers_can_be_left_a_share_of_what_waits(one_by_one, waiting, expected):
    held, free = threading.Event(), Recorder()
    held_by_first = threading.Event()

    def run(items: list[int]) -> list[int]:
        if items == [-1]:
            held_by_first.set()
            assert held.wait(PATIENCE)
            return items
        return free(items)

    async with batching(run, workers=2, max_batch=16, one_by_one=one_by_one) as batcher:
        try:
            first = await submitted(batcher, [-1])
            await asyncio.to_thread(held_by_first.wait, PATIENCE)
            items = list(range(waiting))
            assert values(await batcher.submit(items, soon())) == [2 * item for item in items]
        finally:
            held.set()
        await first
    assert [len(batch) for batch in free.batches] == expected
