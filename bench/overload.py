"""Whether the service keeps its word at four times its capacity.

Starts the real server, then, with nothing else on the machine:

1. capacity: a few clients that each send their next photo when the last was answered, so that the
   server is always busy and never late;
2. overload: photos sent at four times that rate for a minute, at Poisson-distributed times that no
   answer can delay (an open loop); a request's time counts from when it should have been sent;
3. how soon ``/readyz`` says yes and a photo is answered again, and how much memory was held.

    python bench/overload.py

Writes ``bench/results/overload.json``; ends with status 1 where a goal of it was missed.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from ferserve.settings import Settings, usable_cpus
from load import (
    Server,
    described,
    metric,
    photo,
    resident_megabytes,
    serving,
    until_ready,
    write_result,
)

FACTOR = 4.0
ALLOWED_CODES = {"200", "429", "504"}
ALLOWED_SHARE = 0.8
ALLOWED_SECONDS_TO_RECOVER = 1.0
ALLOWED_MEGABYTES = 300
"""What a full queue of uploads may hold beside the server at rest."""

LATE_SECONDS = 0.5
"""A generator later than this for 1 of 100 requests did not send what it says it sent."""


@dataclass
class Tally:
    """What became of the requests; ``answered_meanwhile`` leaves out what came after the last."""

    codes: Counter[str] = field(default_factory=Counter)
    admitted_seconds: list[float] = field(default_factory=list)
    late_seconds: list[float] = field(default_factory=list)
    answered_meanwhile: int = 0

    def quantile(self, share: float, seconds: list[float]) -> float | None:
        """Returns a quantile in seconds; None of nothing."""
        return round(float(np.quantile(seconds, share)), 4) if seconds else None


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--capacity-seconds", type=float, default=15)
    options = parser.parse_args()
    deadline = Settings().request_timeout_ms / 1000
    with serving() as server:
        server.client.post("/v1/emotion", content=photo()).raise_for_status()
        capacity = asyncio.run(measure_capacity(server, options.capacity_seconds))
        at_rest = resident_megabytes(server)
        rate = FACTOR * capacity
        tally, largest = asyncio.run(overload(server, rate, options.seconds))
        recovery = recover(server)
        after = resident_megabytes(server)
        dropped = metric(server.client, "ferserve_images_dropped_total")
    goodput = tally.answered_meanwhile / options.seconds
    p99 = tally.quantile(0.99, tally.admitted_seconds)
    late = tally.quantile(0.99, tally.late_seconds)
    result: dict[str, Any] = {
        **described(),
        "photo": "astronaut, 512 x 512, JPEG, one face, found by the detector",
        "capacity_per_second": round(capacity, 2),
        "offered_per_second": round(rate, 2),
        "seconds": options.seconds,
        "codes": dict(sorted(tally.codes.items())),
        "goodput_per_second": round(goodput, 2),
        "goodput_share_of_capacity": round(goodput / capacity, 3),
        "admitted_seconds_p50": tally.quantile(0.5, tally.admitted_seconds),
        "admitted_seconds_p99": p99,
        "deadline_seconds": deadline,
        "generator_late_seconds_p99": late,
        "resident_mb": {"at rest": at_rest, "largest": largest, "after": after},
        "images_dropped": dropped,
        "seconds_to_recover": recovery,
    }
    result["met"] = {
        "only 200, 429 and 504": set(tally.codes) <= ALLOWED_CODES,
        f"goodput above {ALLOWED_SHARE:.0%} of capacity": goodput > ALLOWED_SHARE * capacity,
        "p99 of the admitted under the deadline": p99 is not None and p99 < deadline,
        "memory bounded": largest - at_rest <= ALLOWED_MEGABYTES,
        "ready within 1 s after": recovery <= ALLOWED_SECONDS_TO_RECOVER,
        "the generator kept its times": late is not None and late < LATE_SECONDS,
    }
    write_result("overload", result)


async def measure_capacity(server: Server, seconds: float) -> float:
    """Returns the answers per second with two clients a processor."""
    data, answered = photo(), 0
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60) as client:
        end = time.monotonic() + seconds

        async def ask() -> None:
            nonlocal answered
            while time.monotonic() < end:
                (await client.post("/v1/emotion", content=data)).raise_for_status()
                answered += 1

        started = time.monotonic()
        await asyncio.gather(*(ask() for _ in range(2 * usable_cpus())))
        return answered / (time.monotonic() - started)


async def overload(server: Server, rate: float, seconds: float) -> tuple[Tally, float]:
    """Sends at the rate, whatever comes back; returns the tally and the largest memory."""
    data, tally, times = photo(), Tally(), np.random.default_rng(0)
    largest = resident_megabytes(server)
    request = (
        f"POST /v1/emotion HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode() + data
    async with asyncio.TaskGroup() as group:

        async def send(intended: float) -> None:
            tally.late_seconds.append(time.monotonic() - intended)
            try:
                async with asyncio.timeout(60):
                    code = await ask_bare(server.port, request)
            except (OSError, TimeoutError) as error:
                code = type(error).__name__
            tally.codes[code] += 1
            if code == "200":
                tally.answered_meanwhile += time.monotonic() < started + seconds
                tally.admitted_seconds.append(time.monotonic() - intended)

        intended = started = time.monotonic()
        looked = 0.0
        while intended < started + seconds:
            await asyncio.sleep(max(0.0, intended - time.monotonic()))
            group.create_task(send(intended))
            intended += times.exponential(1 / rate)
            if intended - looked > 1:
                looked, largest = intended, max(largest, resident_megabytes(server))
    return tally, largest


async def ask_bare(port: int, request: bytes) -> str:
    """Sends one request over a connection of its own; httpx is slow with hundreds of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await reader.read()
        return answer[9:12].decode() or "no answer"
    finally:
        writer.close()


def recover(server: Server) -> float:
    """Returns the seconds until the service is ready and has answered one more photo."""
    started = time.monotonic()
    until_ready(server.client, 60)
    server.client.post("/v1/emotion", content=photo()).raise_for_status()
    return round(time.monotonic() - started, 3)


if __name__ == "__main__":
    main()
