"""How much memory the bodies of all requests together may take."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferserve.errors import QueueFull
from ferserve.garbage import LARGE_BLOCK, give_back_free_pages

SETTLING_SECONDS = 1.0
"""How long after a large upload its memory is looked for: its objects live a little longer."""


class UploadBudget:
    """Counts the bytes of bodies that are held; for one event loop.

    Without it, many clients that each stay under the limit of one body could fill the memory, all
    the more if they send slowly.

    Args:
        max_bytes: Most bytes of all bodies together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    @contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """Gives a function that takes a number of bytes, all of which are given back at the end.

        The function raises ``QueueFull`` where there are not as many left.
        """
        own = 0

        def take(count: int) -> None:
            nonlocal own
            self.take(count)
            own += count

        try:
            yield take
        finally:
            self.give_back(own)

    def take(self, count: int) -> None:
        """Takes bytes, which have to be given back.

        Raises:
            QueueFull: There are not as many left.
        """
        if self._held + count > self._max_bytes:
            raise QueueFull("too many uploads are under way")
        self._held += count

    def give_back(self, count: int) -> None:
        """Gives bytes back."""
        self._held -= count
        if count > LARGE_BLOCK:
            asyncio.get_running_loop().call_later(SETTLING_SECONDS, give_back_free_pages)
