"""What calls have in common: the application's parts, limits of time, clients that leave.

What FastAPI calls is a coroutine, though it waits for nothing: plain functions go to a thread.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect, HTTPConnection

from ferserve.benchmark.run import Benchmarks
from ferserve.budget import UploadBudget
from ferserve.card import ModelCard
from ferserve.errors import NotFound, UnknownModel
from ferserve.recognizer import AsyncRecognizer

T = TypeVar("T")


def _part(name: str) -> Any:
    async def get_part(connection: HTTPConnection) -> Any:
        return getattr(connection.app.state, name)

    return Depends(get_part)


BenchmarksDependency = Annotated[Benchmarks, _part("benchmarks")]
RecognizerDependency = Annotated[AsyncRecognizer, _part("recognizer")]
BudgetDependency = Annotated[UploadBudget, _part("upload_budget")]


async def get_card(name: str, recognizer: RecognizerDependency) -> ModelCard:
    """Returns the card of the model that the path names; NotFound where it is not served."""
    try:
        return recognizer.served(name).model.card
    except UnknownModel as unknown:
        raise NotFound(unknown.detail) from None


CardDependency = Annotated[ModelCard, Depends(get_card)]


def private(milliseconds: Mapping[str, float]) -> dict[str, str]:
    """Headers of an answer about a face: how long it took, and that no cache may keep it."""
    durations = (f"{name};dur={value:.1f}" for name, value in milliseconds.items())
    return {"Server-Timing": ", ".join(durations), "Cache-Control": "no-store"}


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work``, but cancels it and raises ClientDisconnect when the client leaves.

    The caller's own task does the work: handing it to another takes a part of what a small
    request takes in all.
    """
    caller = asyncio.current_task()
    assert caller  # noqa: S101 - a coroutine runs in a task
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        caller.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if left and caller.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
