"""Limits that hold for all fronts together, as seen by one of them.

Bytes and streams are counted in shared memory: each front writes what it holds itself and reads
what the others hold. There is no lock, so several that take at the very same moment may go over a
limit by what they took then. Calls are counted by the engine, exactly.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ferserve.api.budget import UploadBudget
from ferserve.errors import NotReady, QueueFull
from ferserve.fronts.channel import Channel
from ferserve.fronts.memory import Held
from ferserve.observers import StreamObserver
from ferserve.streaming import FrameStream, Streams, TooManyStreams

HIT_SECONDS = 2.0
"""Time that the engine has to count a call, which comes before the request's own deadline."""


class Share:
    """What this front holds of something, beside what the others hold.

    Args:
        held: int64 ``[fronts, len(Held)]`` in shared memory.
        front: This one.
        what: Is held.
    """

    def __init__(self, held: NDArray[np.int64], front: int, what: Held) -> None:
        self._all = held[:, what]
        self._front = front

    @property
    def total(self) -> int:
        """What all fronts hold."""
        return int(self._all.sum())

    def add(self, count: int) -> None:
        """Notes that this front holds more, or less."""
        self._all[self._front] += count


class SharedBudget(UploadBudget):
    """The bytes of the bodies that all fronts hold.

    Args:
        max_bytes: Most bytes of all bodies together.
        share: What the fronts hold.
    """

    def __init__(self, max_bytes: int, share: Share) -> None:
        super().__init__(max_bytes)
        self._max_of_all = max_bytes
        self._share = share

    def take(self, count: int) -> None:
        """Takes bytes, which have to be given back.

        Raises:
            QueueFull: There are not as many left.
        """
        if self._share.total + count > self._max_of_all:
            raise QueueFull("too many uploads are under way")
        super().take(count)
        self._share.add(count)

    def give_back(self, count: int) -> None:
        """Gives bytes back."""
        super().give_back(count)
        self._share.add(-count)


class SharedStreams(Streams):
    """The streams that are open in all fronts.

    Args:
        max_streams: Most of them at a time.
        observer: Hears of those of this front.
        share: What the fronts hold.
    """

    def __init__(self, max_streams: int, observer: StreamObserver, share: Share) -> None:
        super().__init__(max_streams, observer)
        self._max_of_all = max_streams
        self._share = share

    @contextmanager
    def place(self, stream: FrameStream) -> Iterator[None]:
        """Holds a place for a stream.

        Raises:
            TooManyStreams: There is none.
            StreamsClosed: The service ends.
        """
        if (opened := self._share.total) >= self._max_of_all:
            raise TooManyStreams(f"{opened} streams are open; there is no place for more")
        with super().place(stream):
            self._share.add(1)
            try:
                yield
            finally:
                self._share.add(-1)


class EngineLimiter:
    """Has the engine count calls.

    Args:
        channel: To the engine.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def hit(self, caller: str) -> None:
        """Counts one request.

        Raises:
            RateLimited: It is one too many.
            NotReady: The engine does not answer.
        """
        try:
            async with asyncio.timeout(HIT_SECONDS):
                await self._channel.call("hit", caller)
        except TimeoutError:
            raise NotReady("the engine does not answer") from None
