"""Calls between two processes, in both directions, over a pair of sockets.

Every call is answered, a cancelled one too, unless the other process is gone. Messages are pickled:
both ends are this program, and the sockets have no name that others could connect to.
"""

import asyncio
import logging
import pickle
import struct
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, cast

Method = Callable[..., Coroutine[Any, Any, Any]]

_LENGTH = struct.Struct("!I")
"""Before every message: its length in bytes."""

logger = logging.getLogger(__name__)


class ChannelLost(ConnectionError):  # noqa: N818 - a condition, not a fault
    """The other process is gone."""


class CallFailed(RuntimeError):  # noqa: N818
    """The method failed in the other process, whose log says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call; of one that was cancelled neither value nor error."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call under way; ``ended`` never has an exception and nobody may cancel it."""

    number: int
    ended: asyncio.Future[Outcome]


class Channel(asyncio.Protocol):
    """One end of a socket pair.

    Args:
        methods: What the other end may call, by name.
        refusals: Exceptions that are raised at the other end as they are; others are faults.
        on_lost: Is told once when the other end is gone.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        refusals: tuple[type[Exception], ...] = (),
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._methods = methods
        self._refusals = refusals
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._numbers = count()
        self._calls: dict[int, Call] = {}
        self._answering: dict[int, asyncio.Task[Any]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by class

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Fails what was asked for, and drops what was asked of this end."""
        self._transport = None
        for task in self._answering.values():
            task.cancel()
        for call in self._calls.values():
            call.ended.set_result(Outcome(error=ChannelLost("the other process is gone")))
        self._calls.clear()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Takes the messages that are complete."""
        self._buffer += data
        begin = 0
        while len(self._buffer) - begin >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, begin)
            end = begin + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            kind, *contents = pickle.loads(self._buffer[begin + _LENGTH.size : end])  # noqa: S301
            getattr(self, kind)(*contents)
            begin = end
        del self._buffer[:begin]

    def begin(self, method: str, *arguments: Any) -> Call:
        """Calls a method of the other end.

        Raises:
            ChannelLost: The other process is gone.
        """
        call = Call(next(self._numbers), asyncio.get_running_loop().create_future())
        self._send("_called", call.number, method, arguments)
        self._calls[call.number] = call
        return call

    def cancel(self, call: Call) -> None:
        """Has the other end give a call up; it ends all the same, a little later."""
        if not call.ended.done():
            self._send("_given_up", call.number)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the other end and awaits its end; cancelling gives it up.

        Raises:
            ChannelLost: The other process is gone.
            CallFailed: The method failed.
            Exception: Or what the method refused with.
        """
        call = self.begin(method, *arguments)
        try:
            outcome = await asyncio.shield(call.ended)
        except asyncio.CancelledError:
            if self._transport:
                self.cancel(call)
            raise
        if outcome.error:
            raise outcome.error
        return outcome.value

    def close(self) -> None:
        """Hangs up."""
        if self._transport:
            self._transport.close()

    def _called(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        task = asyncio.get_running_loop().create_task(self._methods[method](*arguments))
        self._answering[number] = task
        # A callback: a task that is cancelled before it begins runs no code of ours.
        task.add_done_callback(partial(self._answer, number, method))

    def _given_up(self, number: int) -> None:
        if task := self._answering.get(number):
            task.cancel()

    def _ended(self, number: int, value: Any, error: Exception | None) -> None:
        self._calls.pop(number).ended.set_result(Outcome(value, error))

    def _answer(self, number: int, method: str, task: asyncio.Task[Any]) -> None:
        del self._answering[number]
        value, error = None, None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, self._refusals):
            logger.error("%s failed", method, exc_info=error)
            error = CallFailed(f"{method}: {type(error).__name__}")
        elif error is None and not task.cancelled():
            value = task.result()
        if self._transport:
            self._send("_ended", number, value, error)

    def _send(self, *message: Any) -> None:
        if self._transport is None:
            raise ChannelLost("the other process is gone")
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._transport.write(_LENGTH.pack(len(content)) + content)
