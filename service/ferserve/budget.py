"""How much memory the bytes of all callers together may take."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferserve.errors import PayloadTooLarge, QueueFull
from ferserve.garbage import LARGE_BLOCK, give_back_free_pages

SETTLING_SECONDS = 0.5
"""How long after a large upload its memory is looked for: its objects live a little longer."""

Take = Callable[[int], None]
"""Is told of every part of a body before it is kept, and raises where there is no room for it."""


class UploadBudget:
    """Counts the bytes of bodies and frames that are held; for one event loop.

    Without it, many clients that each stay under the limit of one body could fill the memory, all
    the more if they send slowly.

    Attributes:
        held: Bytes held now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self._max_bytes = max_bytes

    def take(self, count: int, share: float = 1) -> None:
        """Takes bytes, which have to be given back; all that are held may be a share of the budget.

        Raises:
            QueueFull: There are not as many left.
        """
        if self.held + count > share * self._max_bytes:
            raise QueueFull("too many uploads are under way")
        self.held += count

    def give_back(self, count: int) -> None:
        """Gives bytes back."""
        self.held -= count
        if count > LARGE_BLOCK:
            asyncio.get_running_loop().call_later(SETTLING_SECONDS, give_back_free_pages)

    @contextmanager
    def charge(self, share: float = 1) -> Iterator[Take]:
        """Returns ``take`` for one request; all that it took is given back at the end.

        It raises PayloadTooLarge where there never is as much.
        """
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if own + count > share * self._max_bytes:
                raise PayloadTooLarge(
                    "the body needs more memory than FERSERVE_UPLOAD_MEMORY_BYTES leaves it"
                )
            self.take(count, share)
            own += count

        try:
            yield take
        finally:
            self.give_back(own)
