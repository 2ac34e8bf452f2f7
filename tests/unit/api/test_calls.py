"""Work is done for clients that wait for it."""

import asyncio

import pytest
from ferserve.api.calls import while_connected
from starlette.requests import ClientDisconnect, Request


class Connection:
    """What a server tells of a connection whose request has been read."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, str]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    @property
    def request(self) -> Request:
        return Request({"type": "http"}, self.receive)


async def never(begun: asyncio.Event, ended: list[str]) -> None:
    begun.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_client_that_waits_gets_the_result():
    async def work() -> str:
        await settle()
        return "answer"

    assert await while_connected(Connection().request, work()) == "answer"


async def test_the_work_of_a_client_that_leaves_is_cancelled():
    connection, begun, ended = Connection(), asyncio.Event(), []
    task = asyncio.create_task(while_connected(connection.request, never(begun, ended)))
    await begun.wait()
    connection.leave()
    with pytest.raises(ClientDisconnect):
        await task
    assert ended == ["cancelled"]


async def test_a_client_that_leaves_as_the_work_ends_disturbs_nothing_that_follows():
    connection = Connection()

    async def work() -> str:
        await settle()
        connection.leave()
        return "answer"

    async def call() -> str:
        answer = await while_connected(connection.request, work())
        await settle()
        return answer

    assert await asyncio.create_task(call()) == "answer"


async def test_who_cancels_the_call_from_outside_sees_a_cancellation():
    begun, ended = asyncio.Event(), []
    task = asyncio.create_task(while_connected(Connection().request, never(begun, ended)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


async def test_what_the_work_raises_is_raised_here():
    async def work() -> None:
        raise LookupError("no such model")

    with pytest.raises(LookupError, match="no such model"):
        await while_connected(Connection().request, work())


async def test_after_a_client_left_its_task_can_be_cancelled_again():
    connection, begun = Connection(), asyncio.Event()

    async def call() -> int:
        try:
            await while_connected(connection.request, never(begun, []))
        except ClientDisconnect:
            return asyncio.current_task().cancelling()
        return -1

    task = asyncio.create_task(call())
    await begun.wait()
    connection.leave()
    assert await task == 0
