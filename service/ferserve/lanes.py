"""What waits for a batcher's workers: two lanes with limits of their own. Has no lock."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import Generic, Literal, TypeVar

from ferserve.errors import QueueFull

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lane(Enum):
    """Which items come first."""

    LIVE = "live"
    BACKGROUND = "background"


Release = Literal["full", "idle_worker", "wait_over"]
"""Why a batch was not kept waiting for more items."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """One item's result; the seconds before its batch began, and those that the batch took."""

    value: Result
    queue_seconds: float
    inference_seconds: float


@dataclass(frozen=True, slots=True)
class Entry(Generic[Item, Result]):
    """An item that waits, and the future its answer goes to."""

    item: Item
    future: asyncio.Future[Answer[Result]]
    deadline: float
    enqueued_at: float


Outcome = tuple[Entry[Item, Result], Answer[Result] | Exception]
"""What goes to an entry's future."""


@dataclass(slots=True)
class Queue(Generic[Item, Result]):
    """What waits in one lane, and its limits; guarded by the batcher's condition."""

    lane: Lane
    max_batch: int
    max_size: int
    max_wait: float = 0.0
    waiting: deque[Entry[Item, Result]] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, entries: list[Entry[Item, Result]]) -> None:
        """Takes all entries or, where they do not fit, raises QueueFull and takes none."""
        if len(self.waiting) + len(entries) > self.max_size:
            # Those who left while every worker was busy still hold places.
            self.waiting = deque(e for e in self.waiting if not e.future.done())
        if len(self.waiting) + len(entries) > self.max_size:
            raise QueueFull(f"{len(self.waiting)} of {self.max_size} places are taken")
        self.waiting.extend(entries)

    def time_to_fill(self) -> float:
        """Seconds the oldest item may still wait for others; 0 or less: it goes now."""
        if not self.max_wait or not self.waiting or len(self.waiting) >= self.max_batch:
            return 0.0
        return self.waiting[0].enqueued_at + self.max_wait - monotonic()

    def why_released(self, batch_size: int) -> Release:
        """Says why a batch of this size goes now."""
        if batch_size >= self.max_batch:
            return "full"
        return "wait_over" if self.max_wait else "idle_worker"
