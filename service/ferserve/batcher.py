"""Dynamic batching with idle dispatch; knows neither HTTP nor ONNX.

A free worker takes at once its share of what waits, and blocks when nothing does. So a lone item
never waits for company, and batches form by themselves while the workers are busy. Only a worker
that has just answered several items may linger for a small share of the time they took, until as
many have come: callers that send one request after the other come back just then.

There are two lanes. Items of the background lane are taken only while no live item waits and are
never mixed with live ones, so a live item waits for at most one background batch.
"""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Generic

from ferserve.errors import DeadlineExceeded, InternalError, NotReady, QueueFull
from ferserve.lanes import Answer, Entry, Item, Lane, Outcome, Queue, Result
from ferserve.metrics import Metrics

RESTART_SECONDS = 1.0
"""Pause before a worker that died goes on: what kills every worker at once must not spin."""

CLOSING_SECONDS = 0.005
"""Between looks at workers that end: as the interpreter ends, no thread can be had to join them."""

logger = logging.getLogger(__name__)


class Batcher(Generic[Item, Result]):
    """Feeds items from many coroutines of one event loop to a function that takes batches.

    Args:
        run: Called by up to ``workers`` threads at a time with 1..``max_batch`` items; returns a
            result for each, in order.
        workers: Number of threads.
        max_batch: Most items a call; in the background lane ``max_background_batch``.
        max_queue: Most items waiting; in the background lane ``max_background_queue``.
        max_wait: Seconds an item may wait for others to fill its batch, from its arrival.
        linger: Share of a batch's time for which its worker may wait for a next one of that size.
        one_by_one: Up to this many queued live items per worker run one at a time. Beyond that, a
            worker takes the surplus as one batch. Right where a batch takes about as long as its
            items one by one. 0, and any ``max_wait``, divides the queue among idle workers.
        name: Of the model, in metrics and in the names of the threads.
        metrics: Where everything is counted.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Iterable[Result]],
        *,
        workers: int = 1,
        max_batch: int = 32,
        max_queue: int = 256,
        max_wait: float = 0.0,
        linger: float = 0.0,
        one_by_one: int = 0,
        max_background_batch: int = 32,
        max_background_queue: int = 256,
        name: str = "batcher",
        metrics: Metrics | None = None,
    ) -> None:
        self._run = run
        self._linger = linger
        self._one_by_one = one_by_one
        self._name = name
        self._metrics = metrics or Metrics()
        self._condition = threading.Condition()
        self._queues: dict[Lane, Queue[Item, Result]] = {
            Lane.LIVE: Queue(Lane.LIVE, max_batch, max_queue, max_wait),
            Lane.BACKGROUND: Queue(Lane.BACKGROUND, max_background_batch, max_background_queue),
        }
        for lane, queue in self._queues.items():
            self._metrics.watch_queue(name, lane, partial(len, queue))
        self._idle_workers = 0
        self._broken_workers = 0
        self._open = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(workers)
        ]

    @property
    def healthy(self) -> bool:
        """Whether items are taken and every worker lives."""
        return self._open

    def start(self) -> None:
        """Starts the workers; once only."""
        self._open = True
        for thread in self._threads:
            thread.start()

    async def submit(
        self, items: Sequence[Item], deadline: float, lane: Lane = Lane.LIVE
    ) -> list[Answer[Result]]:
        """Queues the items, all or none, and returns an answer for each, in order.

        They may be spread over several batches. Cancelling the call takes those that still wait out
        of the queue.

        Raises:
            QueueFull: The items do not fit in the lane's queue.
            DeadlineExceeded: The answers were not there by ``deadline``, on the clock of
                ``time.monotonic``.
            InternalError: The function raised on a batch with one of these items; its exception
                is the ``__cause__``.
            NotReady: No worker will take the items.
        """
        loop = asyncio.get_running_loop()
        now = monotonic()
        entries: list[Entry[Item, Result]] = [
            Entry(item, loop.create_future(), deadline, now) for item in items
        ]
        with self._condition:
            if not self._open:
                raise NotReady("no worker is running")
            try:
                self._queues[lane].add(entries)
            except QueueFull:
                self._metrics.faces_dropped(self._name, lane, "rejected", len(entries))
                raise
            self._condition.notify(len(entries))
        futures = [entry.future for entry in entries]
        try:
            async with asyncio.timeout(deadline - now):
                # Most calls have one item: nothing to gather.
                if len(futures) == 1:
                    return [await futures[0]]
                return await asyncio.gather(*futures)
        except (TimeoutError, DeadlineExceeded):
            self._metrics.faces_dropped(self._name, lane, "expired", _unanswered(futures))
            raise DeadlineExceeded("the answer took too long") from None
        except asyncio.CancelledError:
            self._metrics.faces_dropped(self._name, lane, "cancelled", _unanswered(futures))
            raise
        finally:
            for future in futures:
                future.cancel()

    async def close(self) -> None:
        """Fails what still waits, lets running batches end and stops the workers."""
        with self._condition:
            self._closed = True
            self._give_up("the batcher was closed")
        while any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(CLOSING_SECONDS)

    def _work(self) -> None:
        while not self._closed:
            batch: list[Entry[Item, Result]] = []
            expected, until = 1, 0.0
            try:
                while batch := self._take(expected, until):
                    started = monotonic()
                    self._process(batch)
                    ended = monotonic()
                    expected, until = len(batch), ended + self._linger * (ended - started)
                    batch = []  # an idle worker would keep its faces and their scores
            except BaseException:
                self._recover(batch)

    def _recover(self, batch: list[Entry[Item, Result]]) -> None:
        """Gives up what waits, and takes items again once every worker is back."""
        name = threading.current_thread().name
        logger.critical("a worker died: %s; the queue is dropped", name, exc_info=True)
        self._metrics.worker_died(self._name)
        with self._condition:
            self._broken_workers += 1
            self._give_up("a worker died", also=batch)
            if self._condition.wait_for(lambda: self._closed, RESTART_SECONDS):
                return
            self._broken_workers -= 1
            self._open = not self._broken_workers
        logger.warning("the worker %s was restarted", name)

    def _take(self, expected: int, until: float) -> list[Entry[Item, Result]]:
        """Blocks until there is a batch; an empty one means that the batcher was closed.

        ``expected`` live items are worth waiting for ``until`` that time.
        """
        with self._condition:
            while not self._closed:
                queue = self._next_queue()
                pause = queue.time_to_fill()
                if queue.lane is Lane.LIVE and len(queue) < min(expected, queue.max_batch):
                    pause = max(pause, until - monotonic())
                if queue.waiting and pause <= 0:
                    if batch := self._pop(queue):
                        return batch
                    continue
                self._idle_workers += 1
                self._condition.wait(pause if queue.waiting else None)
                self._idle_workers -= 1
        return []

    def _next_queue(self) -> Queue[Item, Result]:
        """The first lane in which something waits, or else the last."""
        live, background = self._queues[Lane.LIVE], self._queues[Lane.BACKGROUND]
        return live if live.waiting else background

    def _pop(self, queue: Queue[Item, Result]) -> list[Entry[Item, Result]]:
        """Takes this worker's share of what waits, leaving the rest to the others."""
        share = min(queue.max_batch, self._share(queue))
        batch: list[Entry[Item, Result]] = []
        expired: list[Entry[Item, Result]] = []
        now = monotonic()
        while queue.waiting and len(batch) < share:
            entry = queue.waiting.popleft()
            if not entry.future.done():
                (batch if now < entry.deadline else expired).append(entry)
        if self._next_queue().waiting:
            self._condition.notify()
        _settle_soon([(e, DeadlineExceeded("the queue was too long")) for e in expired])
        if batch:
            waits = [now - entry.enqueued_at for entry in batch]
            reason = queue.why_released(len(batch))
            self._metrics.batch_released(self._name, queue.lane, waits, reason)
        return batch

    def _share(self, queue: Queue[Item, Result]) -> int:
        """How many of the items that wait in a lane one worker should take."""
        if self._one_by_one and queue.lane is Lane.LIVE and not queue.max_wait:
            for_each = math.ceil(len(queue) / len(self._threads))
            return max(1, for_each - self._one_by_one + 1)
        return math.ceil(len(queue) / (self._idle_workers + 1))

    def _process(self, batch: list[Entry[Item, Result]]) -> None:
        started = monotonic()
        outcomes: list[Outcome[Item, Result]]
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
        self._metrics.batch_done(self._name, monotonic() - started)
        _settle_soon(outcomes)

    def _give_up(self, reason: str, also: Sequence[Entry[Item, Result]] = ()) -> None:
        """Takes no more items and fails those that wait; the condition is held."""
        self._open = False
        left = [*also, *(e for queue in self._queues.values() for e in queue.waiting)]
        for queue in self._queues.values():
            queue.waiting.clear()
        self._condition.notify_all()
        _settle_soon([(entry, NotReady(reason)) for entry in left])


def _caused_by(error: Exception) -> InternalError:
    failure = InternalError(f"the batch failed: {type(error).__name__}")
    failure.__cause__ = error
    return failure


def _unanswered(futures: Sequence[asyncio.Future[Answer[Result]]]) -> int:
    return sum(not f.done() or f.cancelled() or f.exception() is not None for f in futures)


def _settle_soon(outcomes: Sequence[Outcome[Item, Result]]) -> None:
    """Hands the outcomes to the event loop, in one call for all; from any thread."""
    if outcomes and not (loop := outcomes[0][0].future.get_loop()).is_closed():
        loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[Outcome[Item, Result]]) -> None:
    for entry, outcome in outcomes:
        if entry.future.done():  # its client left, or its deadline passed, meanwhile
            continue
        if isinstance(outcome, Exception):
            entry.future.set_exception(outcome)
        else:
            entry.future.set_result(outcome)
