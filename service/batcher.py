"""Dynamic batching with idle dispatch; knows neither HTTP nor ONNX.

A free worker takes at once what waits, up to the largest batch, and blocks when nothing does. So
a lone item never waits for company, and batches form by themselves while the workers are busy.

There are two lanes. Items of the background lane are taken only while no live item waits and are
never mixed with live ones, so a live item waits for at most one background batch.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class QueueFull(Exception):  # noqa: N818 - a condition, not a fault
    """The items would not fit in the queue; none of them was taken."""


class DeadlineExceeded(Exception):  # noqa: N818
    """The answer was not there by the deadline."""


class BatcherClosed(Exception):  # noqa: N818
    """The batcher takes no items: not started, closed, or one of its workers died."""


class BatchFailed(Exception):  # noqa: N818
    """The function raised on this item's batch; its exception is the ``__cause__``."""


class Lane(Enum):
    """Which items come first."""

    LIVE = "live"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """One item's result.

    Attributes:
        value: What the function returned for the item.
        queue_seconds: From arrival to the start of the item's batch.
        inference_seconds: Duration of the item's batch.
    """

    value: Result
    queue_seconds: float
    inference_seconds: float


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Answer[Result]]
    deadline: float
    enqueued_at: float


@dataclass(slots=True)
class _Queue(Generic[Item, Result]):
    """What waits in one lane, and its limits; guarded by the batcher's condition."""

    max_batch: int
    max_size: int
    max_wait: float = 0.0
    waiting: deque[_Entry[Item, Result]] = field(default_factory=deque)

    def add(self, entries: list[_Entry[Item, Result]]) -> None:
        """Takes all entries or, where they do not fit, none."""
        if len(self.waiting) + len(entries) > self.max_size:
            # Those who left while every worker was busy still hold places.
            self.waiting = deque(e for e in self.waiting if not e.future.done())
        if len(self.waiting) + len(entries) > self.max_size:
            raise QueueFull(f"{len(self.waiting)} of {self.max_size} places are taken")
        self.waiting.extend(entries)

    def time_to_fill(self) -> float:
        """Seconds the oldest item may still wait for others; 0 or less if none waits."""
        if not self.max_wait or not self.waiting or len(self.waiting) >= self.max_batch:
            return 0.0
        return self.waiting[0].enqueued_at + self.max_wait - monotonic()


class Batcher(Generic[Item, Result]):
    """Feeds items from many coroutines of one event loop to a function that takes batches.

    Args:
        run: Called in a worker thread with 1..``max_batch`` items; returns a result for each, in
            order. Must bear being called by ``workers`` threads at a time.
        workers: Number of threads.
        max_batch: Most items a call.
        max_queue: Most items waiting.
        max_wait: Seconds an item may wait for others to fill its batch, from its arrival.
        max_background_batch: Most items a call from the background lane; what a live item may
            have to wait for.
        max_background_queue: Most items waiting in the background lane.
        name: Name of the threads, for logs and debuggers.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Iterable[Result]],
        *,
        workers: int = 1,
        max_batch: int = 32,
        max_queue: int = 256,
        max_wait: float = 0.0,
        max_background_batch: int = 32,
        max_background_queue: int = 256,
        name: str = "batcher",
    ) -> None:
        self._run = run
        self._condition = threading.Condition()
        self._queues: dict[Lane, _Queue[Item, Result]] = {
            Lane.LIVE: _Queue(max_batch, max_queue, max_wait),
            Lane.BACKGROUND: _Queue(max_background_batch, max_background_queue),
        }
        self._idle_workers = 0
        self._open = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(workers)
        ]

    @property
    def healthy(self) -> bool:
        """Whether items are taken and every worker lives."""
        return self._open and all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Starts the workers; once only."""
        self._open = True
        for thread in self._threads:
            thread.start()

    async def submit(
        self, items: Sequence[Item], deadline: float, lane: Lane = Lane.LIVE
    ) -> list[Answer[Result]]:
        """Queues the items, all or none, and waits for their answers.

        Cancelling the call takes items that still wait out of the queue.

        Args:
            items: Any number; they may be spread over several batches.
            deadline: Latest time of the answers, on the clock of ``time.monotonic``.
            lane: Background items yield to live ones.

        Returns:
            An answer for each item, in order.

        Raises:
            QueueFull: The items do not fit in the lane's queue.
            DeadlineExceeded: The answers were not there by ``deadline``.
            BatchFailed: The function raised on a batch with one of these items.
            BatcherClosed: No worker will take the items.
        """
        loop = asyncio.get_running_loop()
        now = monotonic()
        entries: list[_Entry[Item, Result]] = [
            _Entry(item, loop.create_future(), deadline, now) for item in items
        ]
        self._enqueue(entries, lane)
        futures = [entry.future for entry in entries]
        try:
            async with asyncio.timeout(deadline - now):
                return await asyncio.gather(*futures)
        except TimeoutError:
            raise DeadlineExceeded("the answer took too long") from None
        finally:
            for future in futures:
                future.cancel()

    async def close(self) -> None:
        """Fails what still waits, lets running batches end and stops the workers."""
        self._shut("the batcher was closed")
        started = [thread for thread in self._threads if thread.ident is not None]
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in started))

    def _enqueue(self, entries: list[_Entry[Item, Result]], lane: Lane) -> None:
        with self._condition:
            if not self._open:
                raise BatcherClosed("no worker is running")
            self._queues[lane].add(entries)
            self._condition.notify(len(entries))

    def _work(self) -> None:
        batch: list[_Entry[Item, Result]] = []
        try:
            while batch := self._take():
                self._process(batch)
        except BaseException:
            logger.critical("a worker died; no more items are taken", exc_info=True)
            self._shut("a worker died", also=batch)

    def _take(self) -> list[_Entry[Item, Result]]:
        """Blocks until there is a batch; an empty one means that the batcher was shut."""
        with self._condition:
            while self._open:
                queue = self._next_queue()
                pause = queue.time_to_fill()
                if queue.waiting and pause <= 0:
                    if batch := self._pop(queue):
                        return batch
                    continue
                self._idle_workers += 1
                self._condition.wait(pause if queue.waiting else None)
                self._idle_workers -= 1
        return []

    def _next_queue(self) -> _Queue[Item, Result]:
        """The first lane in which something waits, or else the last."""
        live, background = self._queues[Lane.LIVE], self._queues[Lane.BACKGROUND]
        return live if live.waiting else background

    def _pop(self, queue: _Queue[Item, Result]) -> list[_Entry[Item, Result]]:
        """Takes this worker's share of what waits, leaving the rest to the idle ones."""
        waiting = queue.waiting
        share = min(queue.max_batch, -(-len(waiting) // (self._idle_workers + 1)))
        batch: list[_Entry[Item, Result]] = []
        expired: list[_Entry[Item, Result]] = []
        now = monotonic()
        while waiting and len(batch) < share:
            entry = waiting.popleft()
            if entry.future.done():
                continue
            (batch if now < entry.deadline else expired).append(entry)
        if self._next_queue().waiting:
            self._condition.notify()
        _settle_soon([(e, DeadlineExceeded("the queue was too long")) for e in expired])
        return batch

    def _process(self, batch: list[_Entry[Item, Result]]) -> None:
        started = monotonic()
        outcomes: list[tuple[_Entry[Item, Result], Answer[Result] | Exception]]
        try:
            values = self._run([entry.item for entry in batch])
            duration = monotonic() - started
            outcomes = [
                (entry, Answer(value, started - entry.enqueued_at, duration))
                for entry, value in zip(batch, values, strict=True)
            ]
        except Exception as error:
            # One exception each: requests that raise a shared one would share its traceback.
            outcomes = [(entry, _caused_by(error)) for entry in batch]
        _settle_soon(outcomes)

    def _shut(self, reason: str, also: Sequence[_Entry[Item, Result]] = ()) -> None:
        with self._condition:
            self._open = False
            left = [*also, *(e for queue in self._queues.values() for e in queue.waiting)]
            for queue in self._queues.values():
                queue.waiting.clear()
            self._condition.notify_all()
        _settle_soon([(entry, BatcherClosed(reason)) for entry in left])


def _caused_by(error: Exception) -> BatchFailed:
    failure = BatchFailed(f"the batch failed: {type(error).__name__}")
    failure.__cause__ = error
    return failure


def _settle_soon(
    outcomes: Sequence[tuple[_Entry[Item, Result], Answer[Result] | Exception]],
) -> None:
    """Hands the outcomes to the event loop, in one call for all; from any thread."""
    if not outcomes:
        return
    loop = outcomes[0][0].future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[tuple[_Entry[Item, Result], Answer[Result] | Exception]]) -> None:
    for entry, outcome in outcomes:
        if entry.future.done():  # its client left, or its deadline passed, meanwhile
            continue
        if isinstance(outcome, Exception):
            entry.future.set_exception(outcome)
        else:
            entry.future.set_result(outcome)
