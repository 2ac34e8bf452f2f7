"""What eight cameras get: streams of 10 frames a second for a minute, all at once.

The clients, in a process of their own, each send a face that moves about, at its times however late
the answers are. Every frame must have been answered or counted as dropped, by the stream and by the
metrics alike.

    python bench/streams.py
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import skimage.data
from ferserve import AsyncClient
from ferserve.schemas import StreamAnswer
from load import command_line, encoded, serving, write_result
from PIL import Image

SIZE = (640, 480)
POSITIONS = 32
MEMORY_EVERY_SECONDS = 2.0
ALLOWED_GROWTH = 0.05
ALLOWED_DIFFERENCE = 0.2
WANTED_SHARE = 0.97
WANTED_P95_MS = 150.0


@dataclass
class Film:
    """What a stream's client saw.

    A frame was ``late`` by the generator's own delay; ``latencies`` count from its intended time.
    """

    sent: int = 0
    late: float = 0.0
    dropped: int = 0
    latencies: list[float] = field(default_factory=list)


def main() -> None:
    options = command_line(__doc__, streams=8, rate=10.0, seconds=60.0).parse_args()
    spawn = multiprocessing.get_context("spawn")  # a fork would share the generator's sockets
    with serving() as service, ProcessPoolExecutor(1, spawn) as pool:
        films = pool.submit(film_all, service.url, moving_face(), options)
        memory, started = [], time.monotonic()
        while not films.done():
            memory.append((round(time.monotonic() - started, 1), service.resident_mb()))
            time.sleep(MEMORY_EVERY_SECONDS)
        counted = service.metric("ferserve_stream_frames_total")
    result = summarize(films.result(), memory, counted, options)
    write_result("streams", result, options.out)


def moving_face() -> list[bytes]:
    """JPEGs of the astronaut going to the right and back, so that the last leads to the first."""
    portrait = Image.fromarray(skimage.data.astronaut()).resize((480, 480))
    files = []
    for share in 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, POSITIONS, endpoint=False)):
        frame = Image.new("RGB", SIZE, (104, 104, 104))
        frame.paste(portrait, (round(share * (SIZE[0] - portrait.width)), 0))
        files.append(encoded(frame))
    return files


def film_all(*args: Any) -> list[Film]:
    """Runs ``film_together``, in a process of its own."""
    return asyncio.run(film_together(*args))


async def film_together(url: str, frames: list[bytes], options: argparse.Namespace) -> list[Film]:
    """Sends the frames of all streams at their times, and reads the answers."""
    connected = asyncio.Barrier(options.streams)

    async def film(offset: float) -> Film:
        seen = Film()
        intended: list[float] = []

        async def at_their_times() -> AsyncIterator[bytes]:
            await connected.wait()
            start = time.monotonic() + offset
            for number in range(round(options.rate * options.seconds)):
                intended.append(start + number / options.rate)
                await asyncio.sleep(max(0.0, intended[-1] - time.monotonic()))
                seen.late = max(seen.late, time.monotonic() - intended[-1])
                seen.sent += 1
                yield frames[number % len(frames)]

        async with AsyncClient(url) as client:
            async for answer in client.stream(at_their_times(), live=True):
                seen.dropped = answer.dropped
                if isinstance(answer, StreamAnswer):  # else the frame was refused
                    seen.latencies.append(time.monotonic() - intended[answer.frame - 1])
        return seen

    # They begin one after the other within a frame's time: cameras are not in step.
    offsets = [number / options.streams / options.rate for number in range(options.streams)]
    return await asyncio.gather(*map(film, offsets))


def summarize(
    films: list[Film],
    memory: list[tuple[float, float]],
    counted: dict[str, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    answered = [len(film.latencies) for film in films]
    sent, dropped = (sum(film.sent for film in films), sum(film.dropped for film in films))
    latencies = 1000 * np.concatenate([film.latencies for film in films])
    p50, p95, p99 = (round(float(one), 1) for one in np.percentile(latencies, (50, 95, 99)))
    difference = 1 - min(answered) / max(answered)
    settled = [size for seconds, size in memory if seconds >= memory[-1][0] / 4]
    growth = max(settled) / settled[0] - 1
    return {
        "streams": options.streams,
        "frames_a_second_and_stream": options.rate,
        "seconds": options.seconds,
        "sent": sent,
        "answered": sum(answered),
        "dropped": dropped,
        "by_metrics": counted,
        "difference_between_streams": round(difference, 3),
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        "generator_late_ms": round(1000 * max(film.late for film in films), 1),
        "growth_after_a_quarter": round(growth, 4),
        "met": {
            f"at least {WANTED_SHARE:.0%} of the frames answered": sum(answered)
            >= WANTED_SHARE * sent,
            f"p95 at most {WANTED_P95_MS:g} ms": p95 <= WANTED_P95_MS,
            f"frames answered per stream within {ALLOWED_DIFFERENCE:.0%}": difference
            <= ALLOWED_DIFFERENCE,
            "sent = answered + dropped, for each stream": all(
                film.sent == len(film.latencies) + film.dropped for film in films
            ),
            "the metrics count the same": sum(counted.values()) == sent,
            f"memory flat within {ALLOWED_GROWTH:.0%} after a quarter": growth <= ALLOWED_GROWTH,
        },
    }


if __name__ == "__main__":
    main()
