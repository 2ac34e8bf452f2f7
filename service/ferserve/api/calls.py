"""What calls that compute have in common: limits of time, clients that leave, private answers."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request
from starlette.requests import ClientDisconnect

from ferserve.errors import DeadlineExceeded

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


def seconds(timeout_ms: int | None) -> float | None:
    """Turns the header's milliseconds into seconds."""
    # However many digits it has: no setting allows a day.
    return None if timeout_ms is None else min(timeout_ms, 86_400_000) / 1000


def private(milliseconds: Mapping[str, float]) -> dict[str, str]:
    """Headers of an answer about a face: how long it took, and that no cache may keep it."""
    durations = (f"{name};dur={value:.1f}" for name, value in milliseconds.items())
    return {"Server-Timing": ", ".join(durations), "Cache-Control": "no-store"}


@asynccontextmanager
async def upload_time() -> AsyncIterator[None]:
    """Ends an upload that holds memory for too long.

    Raises:
        DeadlineExceeded: It took longer than ``UPLOAD_SECONDS``.
    """
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
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
