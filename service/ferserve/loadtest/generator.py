"""One generator process: sends requests and notes what became of them."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import httpx
import numpy as np

from ferserve.loadtest.arrivals import poisson_arrivals
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan
from ferserve.loadtest.samples import UNFINISHED, Samples

TIMEOUT = "timeout"
"""The code of requests whose answer took too long."""

PAUSE_SECONDS = 0.1
"""A client of a closed loop waits so long after a failed connection: where nobody listens it fails
at once, and the loop would spin."""


class Connections:
    """Connections to one server, taken and given back; the one used last is taken first.

    Each has an httpx transport of its own, because httpx looks through the whole pool at every
    request: with hundreds of connections that takes longer than the request.
    """

    def __init__(self) -> None:
        self._ssl = httpx.create_ssl_context()
        self._limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
        self._idle: list[httpx.AsyncHTTPTransport] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        """Lends a connection; it is not used again after a failure."""
        transport = (
            self._idle.pop()
            if self._idle
            else httpx.AsyncHTTPTransport(verify=self._ssl, limits=self._limits)
        )
        try:
            yield transport
        except BaseException:
            await transport.aclose()
            raise
        self._idle.append(transport)

    async def close(self) -> None:
        """Closes those that are not lent."""
        while self._idle:
            await self._idle.pop().aclose()


class Generator:
    """Carries out one process' share of a plan.

    Args:
        plan: The whole plan.
        index: Which of the plan's processes this is, from 0.
    """

    def __init__(self, plan: Plan, index: int = 0) -> None:
        self._plan = plan
        self._load = plan.load.share(index, plan.used_processes)
        self._random = np.random.default_rng([plan.seed, index])
        self._requests = [
            httpx.Request(
                "POST",
                plan.url,
                headers={**plan.headers, "Content-Type": payload.content_type},
                content=payload.data,
            )
            for payload in plan.payloads
        ]
        self._connections = Connections()
        self._start = 0.0
        self._intended = array("d")
        self._lag = array("d")
        self._latency = array("d")
        self._code: list[str] = []

    async def run(self, start: float, stop: asyncio.Event) -> Samples:
        """Sends, and waits for every answer; once only.

        Args:
            start: When the run begins, on the clock of ``time.monotonic``.
            stop: Breaks the run off when set; what is under way then counts as unfinished.
        """
        self._start = start
        await asyncio.sleep(max(0.0, -self._now()))
        load = self._load
        sending = asyncio.ensure_future(
            self._open_loop(load) if isinstance(load, OpenLoop) else self._closed_loop(load)
        )
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            sending.cancel()
            await asyncio.wait({sending})
        stopping.cancel()
        await self._connections.close()
        if not sending.cancelled():
            sending.result()  # raises what went wrong in here
        return Samples(
            np.array(self._intended),
            np.array(self._lag),
            np.array(self._latency),
            np.array(self._code, dtype=np.str_),
        )

    async def _open_loop(self, load: OpenLoop) -> None:
        moments = poisson_arrivals(load.rate, self._plan.total_seconds, self._random).tolist()
        choices = self._random.integers(len(self._requests), size=len(moments)).tolist()
        async with asyncio.TaskGroup() as group:
            for intended, choice in zip(moments, choices, strict=True):
                await asyncio.sleep(max(0.0, intended - self._now()))
                group.create_task(self._send(self._requests[choice], intended))

    async def _closed_loop(self, load: ClosedLoop) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(load.concurrency):
                group.create_task(self._client())

    async def _client(self) -> None:
        while (now := self._now()) < self._plan.total_seconds:
            choice = self._random.integers(len(self._requests))
            if not await self._send(self._requests[choice], now):
                await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, request: httpx.Request, intended: float) -> bool:
        """Sends one request and notes what came of it; returns whether a status came."""
        lag = self._now() - intended
        code = UNFINISHED
        try:
            async with asyncio.timeout(self._plan.timeout), self._connections.one() as connection:
                response = await connection.handle_async_request(request)
                code = str(response.status_code)
                try:
                    async for _ in response.aiter_raw():
                        pass
                finally:
                    await response.aclose()
        except TimeoutError:
            code = TIMEOUT
        except httpx.TransportError as error:
            code = type(error).__name__
        except asyncio.CancelledError:
            code = UNFINISHED
            raise
        finally:
            self._intended.append(intended)
            self._lag.append(lag)
            self._latency.append(self._now() - intended)
            self._code.append(code)
        return code.isdecimal()

    def _now(self) -> float:
        return monotonic() - self._start
