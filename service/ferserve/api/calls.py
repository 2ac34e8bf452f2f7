"""What calls have in common: the application's parts, limits of time, clients that leave.

What FastAPI calls is a coroutine, though it waits for nothing: plain functions go to a thread.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from starlette.requests import ClientDisconnect, HTTPConnection

from ferserve.api.budget import UploadBudget
from ferserve.benchmark.run import Benchmarks
from ferserve.card import ModelCard
from ferserve.errors import DeadlineExceeded, NotFound, NotReady
from ferserve.recognizer import AsyncRecognizer

T = TypeVar("T")

UPLOAD_SECONDS = 120
"""Longest time from a request's head to the end of its body."""

TIMEOUT_HEADER = "X-Request-Timeout-Ms"

TimeoutHeader = Annotated[
    int | None,
    Header(
        alias=TIMEOUT_HEADER,
        ge=1,
        description="Shortens the service's own limit, from a whole upload to its answer, ms.",
    ),
]

SERVER_TIMING: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Server-Timing": {
                "description": "Where the time went, milliseconds.",
                "schema": {"type": "string"},
                "example": "decode;dur=1.2, detect;dur=15.0, total;dur=18.9",
            }
        }
    }
}
"""Describes the header of an answer, for the API's description."""


async def get_recognizer(connection: HTTPConnection) -> AsyncRecognizer:
    """Returns the recognizer.

    Raises:
        NotReady: Start-up has not made it yet.
    """
    recognizer: AsyncRecognizer | None = connection.app.state.recognizer
    return _started(recognizer)


async def get_card(name: str, connection: HTTPConnection) -> ModelCard:
    """Returns the card of the model that the path names.

    Raises:
        NotFound: It is not served.
    """
    cards = {card.name: card for card in (await get_recognizer(connection)).cards}
    if name not in cards:
        raise NotFound(f"there is no model {name!r}; the models are: {', '.join(cards)}")
    return cards[name]


async def get_benchmarks(connection: HTTPConnection) -> Benchmarks:
    """Returns the benchmarks.

    Raises:
        NotReady: Start-up has not made them yet.
    """
    benchmarks: Benchmarks | None = connection.app.state.benchmarks
    return _started(benchmarks)


def _started(part: T | None) -> T:
    if part is None:
        raise NotReady("the service is starting")
    return part


async def get_budget(connection: HTTPConnection) -> UploadBudget:
    """Returns the application's budget for uploads."""
    budget: UploadBudget = connection.app.state.upload_budget
    return budget


BenchmarksDependency = Annotated[Benchmarks, Depends(get_benchmarks)]
CardDependency = Annotated[ModelCard, Depends(get_card)]
RecognizerDependency = Annotated[AsyncRecognizer, Depends(get_recognizer)]
BudgetDependency = Annotated[UploadBudget, Depends(get_budget)]


def seconds(timeout_ms: int | None) -> float | None:
    """Turns the header's milliseconds into seconds."""
    # However many digits it has: no setting allows a day.
    return None if timeout_ms is None else min(timeout_ms, 86_400_000) / 1000


def private(milliseconds: Mapping[str, float]) -> dict[str, str]:
    """Headers of an answer about a face: how long it took, and that no cache may keep it."""
    durations = (f"{name};dur={value:.1f}" for name, value in milliseconds.items())
    return {"Server-Timing": ", ".join(durations), "Cache-Control": "no-store"}


@asynccontextmanager
async def upload_time(limit: float | None = None) -> AsyncIterator[None]:
    """Ends an upload that holds memory for too long.

    Args:
        limit: Seconds; ``UPLOAD_SECONDS`` where not given.

    Raises:
        DeadlineExceeded: It took longer.
    """
    try:
        async with asyncio.timeout(limit or UPLOAD_SECONDS):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the upload took too long") from None


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work``, but cancels it when the client leaves.

    The caller's own task does the work: handing it to another takes a part of what a small
    request takes in all.

    Raises:
        ClientDisconnect: The client left.
    """
    caller = asyncio.current_task()
    assert caller  # noqa: S101 - a coroutine runs in a task
    working, left = True, False

    def leave(watching: asyncio.Task[None]) -> None:
        nonlocal left
        if working and not watching.cancelled():
            left = True
            caller.cancel()

    leaving = asyncio.ensure_future(_disconnect(request))
    leaving.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if left and caller.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        working = False
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
