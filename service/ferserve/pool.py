"""A few threads for work that would hold up the event loop, a queue before them, their memory."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic, thread_time
from typing import Any, TypeVar, cast

from ferserve.errors import DeadlineExceeded, NotReady, QueueFull, TooManyImages, TooManyPixels
from ferserve.metrics import Metrics
from ferserve.settings import MEBI

T = TypeVar("T")

SMOOTHING = 0.1
"""Weight of the newest duration in the running mean."""

MARGIN = 0.8
"""Share of the time left that may be spent waiting; the rest is for the work and for inference."""

CLOSING_SECONDS = 0.005
"""Between looks at work that ends."""

PIXEL_SECONDS = 30e-9
"""The unit of work."""

SMALL_BYTES = MEBI
"""Up to here memory is not counted: the number of threads bounds it."""


class Share:
    """The work that is left to one request, safe between threads."""

    def __init__(self, work: int) -> None:
        self._left = work
        self._lock = threading.Lock()

    def take(self, work: int, *, begun: bool = False) -> None:
        """Takes work before it is done; TooManyImages where none is left to begin an image."""
        with self._lock:
            if self._left <= 0 and not begun:
                raise TooManyImages("other images took the request's share: send fewer at a time")
            self._left -= work


class DecodeMemory:
    """The memory that all pictures being decoded share, safe between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def reserve(
        self,
        count: int,
        work: int = 0,
        doubt: int = 0,
        share: Share | None = None,
        deadline: float = math.inf,
    ) -> Iterator[None]:
        """Holds bytes; TooManyPixels where they can never come free, QueueFull where too late.

        Waits for most of the time until ``deadline``, on the clock of ``time.monotonic``. For those
        in ``doubt`` it waits, too, but never asks for more than there are; such an image's share is
        at least what its decoding took.
        """
        if share:
            share.take(work)
        if count > self._max_bytes:
            raise TooManyPixels(
                f"decoding the image would take {-(-count // MEBI)} MiB; "
                f"FERSERVE_DECODE_MEMORY_BYTES allows {self._max_bytes // MEBI} MiB"
            )
        count = min(count + doubt, self._max_bytes)
        count = count if count > SMALL_BYTES else 0
        patience = min(MARGIN * (deadline - monotonic()), threading.TIMEOUT_MAX)
        # In turn: who waits for much would be overtaken for ever by those who need little.
        if count and not self._turn.acquire(timeout=max(0.0, patience)):
            raise QueueFull("other images wait for the memory for decoding")
        try:
            patience = min(MARGIN * (deadline - monotonic()), threading.TIMEOUT_MAX)
            with self._changed:
                free = self._changed.wait_for
                if count and not free(lambda: self._held + count <= self._max_bytes, patience):
                    raise QueueFull("other images use the memory for decoding")
                self._held += count
        finally:
            if count:
                self._turn.release()
        begun = thread_time()
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify_all()
            if share and doubt:
                took = int((thread_time() - begun) / PIXEL_SECONDS)
                share.take(max(0, took - work), begun=True)


class WorkPool:
    """Runs functions in threads, and refuses those that would wait too long.

    Work that is admitted but expires in the queue, or just after it, is lost time: under overload
    a queue of a fixed length would fill with it. So the wait is estimated, too. A thread is overdue
    when it has worked for ``longest`` seconds.
    """

    def __init__(self, threads: int, max_queue: int, metrics: Metrics, longest: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._threads = threads
        self._max_queue = max_queue
        self._longest = longest
        self._metrics = metrics
        self._closed = False
        self.under_way = 0
        self._mean_seconds = 0.0
        self._ends: dict[int, float] = {}  # when each busy thread should be free
        metrics.watch(
            "images_under_way",
            "Images in decoding and face detection, or waiting for it.",
            lambda: self.under_way,
        )

    @property
    def overdue(self) -> bool:
        """Whether every thread works on what nobody can wait for any more."""
        ends = list(self._ends.values())
        return len(ends) == self._threads and max(ends) < monotonic()

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Runs a function off the event loop; cancelling the call drops it if it only waits.

        Raises:
            QueueFull: It would have no place or wait for too long, or every thread is overdue.
            DeadlineExceeded: It had not ended by ``deadline``, on the clock of ``time.monotonic``.
            NotReady: The pool is closed.
        """
        if self._closed:
            raise NotReady("the service is stopped")
        left = deadline - monotonic()
        if left <= 0:
            self._metrics.image_dropped("expired")
            raise DeadlineExceeded("time ran out before the image was decoded")
        if self.overdue:
            self._metrics.image_dropped("rejected")
            raise QueueFull("no image has been decoded in time recently")
        turns_before = self.under_way // self._threads
        if self.under_way >= self._max_queue or self._mean_seconds * turns_before > MARGIN * left:
            self._metrics.image_dropped("rejected")
            raise QueueFull(f"{self.under_way} images are waiting to be decoded")
        slot = [work]  # emptied below: otherwise a cancelled call keeps an upload in memory
        loop = asyncio.get_running_loop()
        future = self._executor.submit(self._work, slot)  # raises as the interpreter ends
        self.under_way += 1
        # Not when the caller stops waiting: a thread that runs on still has the place.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free_place))
        try:
            async with asyncio.timeout(left):
                result, seconds = await asyncio.wrap_future(future)
        except TimeoutError:
            self._metrics.image_dropped("expired")
            raise DeadlineExceeded("decoding and finding faces took too long") from None
        except QueueFull:  # no memory came free
            self._metrics.image_dropped("rejected")
            raise
        except asyncio.CancelledError:
            self._metrics.image_dropped("cancelled")
            if self._closed and not cast(asyncio.Task[Any], asyncio.current_task()).cancelling():
                raise NotReady("the service is stopped") from None
            raise
        finally:
            slot.clear()
        self._mean_seconds += SMOOTHING * (seconds - self._mean_seconds)
        return result

    def _work(self, slot: list[Callable[[], T]]) -> tuple[T, float]:
        started, thread = monotonic(), threading.get_ident()
        work = slot.pop()
        self._ends[thread] = started + self._longest
        try:
            return work(), monotonic() - started
        finally:
            del self._ends[thread]

    def _free_place(self) -> None:
        self.under_way -= 1

    async def close(self) -> None:
        """Lets what runs end, and drops what waits."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        while self.under_way:  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(CLOSING_SECONDS)
