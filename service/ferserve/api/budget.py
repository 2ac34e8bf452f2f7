"""How much memory the bytes of all callers together may take."""

import asyncio
from typing import Self

from ferserve.errors import QueueFull
from ferserve.garbage import LARGE_BLOCK, give_back_free_pages

SETTLING_SECONDS = 0.5
"""How long after a large upload its memory is looked for: its objects live a little longer."""


class UploadBudget:
    """Counts the bytes of bodies and frames that are held; for one event loop.

    Without it, many clients that each stay under the limit of one body could fill the memory, all
    the more if they send slowly.

    Args:
        max_bytes: Most bytes together.

    Attributes:
        held: Bytes held now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self._max_bytes = max_bytes

    def take(self, count: int, share: float = 1) -> None:
        """Takes bytes, which have to be given back.

        Args:
            count: How many.
            share: Of all that there are, what may be held after it.

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


class Charge:
    """What a request holds of a budget; called with a number of bytes, it takes them.

    Args:
        budget: All that there is.
        share: The part of it that may be held after bytes were taken.
    """

    def __init__(self, budget: UploadBudget, share: float = 1) -> None:
        self._budget = budget
        self._share = share
        self._own = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def __call__(self, count: int) -> None:
        """Takes bytes.

        Raises:
            QueueFull: There are not as many left.
        """
        self._budget.take(count, self._share)
        self._own += count

    def give_back(self) -> None:
        """Gives all of them back."""
        own, self._own = self._own, 0
        self._budget.give_back(own)
