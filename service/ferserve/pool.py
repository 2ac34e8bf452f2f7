"""A few threads for work that would hold up the event loop, with a bounded queue before them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

from ferserve.errors import DeadlineExceeded, QueueFull
from ferserve.metrics import Metrics

T = TypeVar("T")

SMOOTHING = 0.1
"""Weight of the newest duration in the running mean."""

MARGIN = 0.8
"""Share of the time left that may be spent waiting; the rest is for the work and for inference."""


class WorkPool:
    """Runs functions in threads, and refuses those that would wait too long.

    Work that is admitted but expires in the queue, or just after it, is lost time: under overload
    a queue of a fixed length would fill with it. So the wait is estimated, too.

    Args:
        threads: Number of threads.
        max_queue: Most functions running or waiting.
        metrics: Counts images that were dropped.
    """

    def __init__(self, threads: int, max_queue: int, metrics: Metrics) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._threads = threads
        self._max_queue = max_queue
        self._metrics = metrics
        self._under_way = 0
        self._mean_seconds = 0.0
        metrics.watch_images(lambda: self._under_way)

    @property
    def under_way(self) -> int:
        """Number of functions running or waiting."""
        return self._under_way

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Runs a function off the event loop; cancelling the call drops it if it only waits.

        Args:
            work: The function; what it raises is raised here.
            deadline: Latest time of its end, on the clock of ``time.monotonic``.

        Raises:
            QueueFull: It would have no place, or wait for too long.
            DeadlineExceeded: It had not ended by ``deadline``.
        """
        left = deadline - monotonic()
        if left <= 0:
            self._metrics.image_dropped("expired")
            raise DeadlineExceeded("the time was over before the image was decoded")
        turns_before = self._under_way // self._threads
        if self._under_way >= self._max_queue or self._mean_seconds * turns_before > MARGIN * left:
            self._metrics.image_dropped("rejected")
            raise QueueFull(f"{self._under_way} images are waiting to be decoded")
        self._under_way += 1
        slot = [work]  # emptied below: a cancelled call would else keep an upload in memory
        loop = asyncio.get_running_loop()
        future = self._executor.submit(_timed, slot)
        # Not when the caller stops waiting: a thread that runs on still has the place.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free_place))
        try:
            async with asyncio.timeout(left):
                result, seconds = await asyncio.wrap_future(future)
        except TimeoutError:
            self._metrics.image_dropped("expired")
            raise DeadlineExceeded("decoding and finding faces took too long") from None
        except asyncio.CancelledError:
            self._metrics.image_dropped("cancelled")
            raise
        finally:
            slot.clear()
        self._mean_seconds += SMOOTHING * (seconds - self._mean_seconds)
        return result

    def _free_place(self) -> None:
        self._under_way -= 1

    async def close(self) -> None:
        """Lets what runs end, and drops what waits."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)


def _timed(slot: list[Callable[[], T]]) -> tuple[T, float]:
    started = monotonic()
    return slot.pop()(), monotonic() - started
