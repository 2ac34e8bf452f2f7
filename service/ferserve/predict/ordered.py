"""Several jobs at a time, results in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_order(
    jobs: Iterable[Callable[[], Coroutine[Any, Any, T]]], at_once: int
) -> AsyncIterator[T]:
    """Runs jobs and yields their results in order.

    Args:
        jobs: Taken one by one as there is room, so they may be more than fit in memory.
        at_once: Most of them under way, or done and not yet yielded.
    """
    under_way: deque[asyncio.Task[T]] = deque()
    try:
        for job in jobs:
            under_way.append(asyncio.create_task(job()))
            await asyncio.sleep(0)  # lets it begin before the next one is made
            if len(under_way) == at_once:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
