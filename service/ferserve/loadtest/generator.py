"""Sends the requests of a plan and notes what became of each."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic, process_time

import httpx
import numpy as np
from numpy.typing import NDArray

from ferserve.loadtest.plan import OpenLoop, Plan, poisson_arrivals

Progress = Callable[[float], object]

PROGRESS_SECONDS = 0.2

PAUSE_SECONDS = 0.1
"""Of a client after a failed connection: where nobody listens, a closed loop would spin."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """A run and what came of it; a row a request, the warm-up's too, in no order.

    Attributes:
        plan: What was to be done.
        intended: float64 ``[n]``, when each was due, seconds from the start of the run; in a
            closed loop when it was sent.
        lag: float64 ``[n]``, seconds by which the generator was late to send it.
        latency: float64 ``[n]``, seconds from when it was due to the end of its answer.
        code: str ``[n]``, the answer's status, or the name of what went wrong.
        generator_cpu: Processors that the generator's process used.
    """

    plan: Plan
    intended: NDArray[np.float64]
    lag: NDArray[np.float64]
    latency: NDArray[np.float64]
    code: NDArray[np.str_]
    generator_cpu: float = 0.0

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether the status of each was 200 to 299; a word is not a status."""
        return np.char.startswith(self.code, "2")


def run(plan: Plan, progress: Progress = lambda _: None) -> Measurement:
    """Carries out a plan; ``progress`` is told now and then how many seconds of it are over."""
    with contextlib.suppress(ImportError, ValueError):  # not on Windows, not all on macOS
        import resource

        # A service that stalls takes a socket for each request that is due.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()  # the collector need not look at what is there: it would make requests late
    try:
        return asyncio.run(measure(plan, progress))
    finally:
        gc.unfreeze()


async def measure(plan: Plan, progress: Progress = lambda _: None) -> Measurement:
    """Carries out a plan, as ``run`` does."""
    generator = _Generator(plan)
    used_before = process_time()
    async with asyncio.TaskGroup() as group:
        reporting = group.create_task(generator.report(progress))
        await generator.send_all()
        reporting.cancel()
    await generator.close()
    times = np.array([row[:3] for row in generator.rows], np.float64)
    intended, lag, latency = times.reshape(-1, 3).T
    code = np.array([row[3] for row in generator.rows], np.str_)
    # The wait for the last answers takes no processor.
    used = (process_time() - used_before) / min(generator.now(), plan.total_seconds)
    return Measurement(plan, intended, lag, latency, code, used)


class _Generator:
    """One run.

    Each connection has an httpx transport of its own, and the one used last is taken first: an
    ``httpx.AsyncClient`` looks through its whole pool at every request, which with hundreds of
    connections takes longer than the request.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = np.random.default_rng(plan.seed)
        self._requests = [
            httpx.Request(
                "POST",
                plan.url,
                headers={**plan.headers, "Content-Type": payload.content_type},
                content=payload.data,
            )
            for payload in plan.payloads
        ]
        self._connect = partial(
            httpx.AsyncHTTPTransport,
            verify=httpx.create_ssl_context(),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
        )
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self.rows: list[tuple[float, float, float, str]] = []
        self._start = monotonic()

    def now(self) -> float:
        return monotonic() - self._start

    async def report(self, progress: Progress) -> None:
        while True:
            progress(self.now())
            await asyncio.sleep(PROGRESS_SECONDS)

    async def send_all(self) -> None:
        load = self._plan.load
        async with asyncio.TaskGroup() as group:
            if not isinstance(load, OpenLoop):
                for _ in range(load.concurrency):
                    group.create_task(self._client())
                return
            moments = poisson_arrivals(load.rate, self._plan.total_seconds, self._random).tolist()
            choices = self._random.integers(len(self._requests), size=len(moments)).tolist()
            for intended, choice in zip(moments, choices, strict=True):
                await asyncio.sleep(max(0.0, intended - self.now()))
                group.create_task(self._send(self._requests[choice], intended))

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def _client(self) -> None:
        while (now := self.now()) < self._plan.total_seconds:
            choice = self._random.integers(len(self._requests))
            await self._send(self._requests[choice], now)

    async def _send(self, request: httpx.Request, intended: float) -> None:
        lag = self.now() - intended
        connection = self._idle.pop() if self._idle else self._connect()
        try:
            async with asyncio.timeout(self._plan.timeout):
                response = await connection.handle_async_request(request)
                await response.aread()
            code = str(response.status_code)
        except TimeoutError:
            code = "timeout"
        except httpx.RequestError as error:
            code = type(error).__name__
        self.rows.append((intended, lag, self.now() - intended, code))
        if code.isdecimal():
            self._idle.append(connection)
        else:
            await connection.aclose()
            await asyncio.sleep(PAUSE_SECONDS)
