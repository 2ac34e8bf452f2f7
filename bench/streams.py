"""Whether streams share the service fairly: 8 of them at 10 frames a second for a minute.

Starts the real server, and as many clients in a process of their own. Each sends a face that moves
about, at its times however late the answers are, and says ``end`` when they are over. Then every
frame must have been answered or counted as dropped, by the stream and by the metrics alike.

    python bench/streams.py

Writes ``bench/results/streams.json``; ends with status 1 where a goal of it was missed.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from load import RESULTS, Server, described, metric, resident_megabytes, serving, write_result
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

MODEL = "custom_cnn"
SIZE = (640, 480)
POSITIONS = 32
MEMORY_EVERY_SECONDS = 2.0
ALLOWED_GROWTH = 0.05
ALLOWED_DIFFERENCE = 0.2


@dataclass
class Film:
    """What a stream's client saw.

    Attributes:
        sent: Frames.
        late: Seconds by which the latest frame was sent too late: the generator's own delay.
        answered: Frames that were answered with faces.
        problems: Frames that were refused, by code.
        wrong: Messages whose ``frame`` is not messages so far plus ``dropped``.
        dropped: As the last message says.
        received: The same.
        latencies: Seconds from a frame's intended time to its answer.
        longest_gap: Seconds between two answers.
        tracks: Numbers that the one face had.
    """

    sent: int = 0
    late: float = 0.0
    answered: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    wrong: int = 0
    dropped: int = 0
    received: int = 0
    latencies: list[float] = field(default_factory=list)
    longest_gap: float = 0.0
    tracks: set[int] = field(default_factory=set)


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second and stream")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of streams.json")
    options = parser.parse_args()
    frames = moving_face()
    with serving(default_model=MODEL) as server:
        films, memory = run(server, frames, options)
        counted = metric(server.client, "ferserve_stream_frames_total")
        still_open = metric(server.client, "ferserve_streams_open")
    result = summarize(films, memory, counted, options)
    result["streams_open_after"] = sum(still_open.values())
    write_result("streams", result, options.out)


def moving_face() -> list[bytes]:
    """JPEGs of the astronaut going to the right and back, so that the last leads to the first."""
    portrait = Image.fromarray(skimage.data.astronaut()).resize((480, 480))
    files = []
    for share in 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, POSITIONS, endpoint=False)):
        frame = Image.new("RGB", SIZE, (104, 104, 104))
        frame.paste(portrait, (round(share * (SIZE[0] - portrait.width)), 0))
        file = io.BytesIO()
        frame.save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def run(
    server: Server, frames: list[bytes], options: argparse.Namespace
) -> tuple[list[Film], list[tuple[float, float]]]:
    """Lets the clients film; returns what they saw, and the server's memory by seconds."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share the generator's sockets
    memory: list[tuple[float, float]] = []
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        films = pool.submit(
            film_all, server.port, frames, options.streams, options.rate, options.seconds
        )
        started = time.monotonic()
        while not films.done():
            memory.append((round(time.monotonic() - started, 1), resident_megabytes(server)))
            time.sleep(MEMORY_EVERY_SECONDS)
        return films.result(), memory


def film_all(
    port: int, frames: list[bytes], streams: int, rate: float, seconds: float
) -> list[Film]:
    """Runs all clients in one event loop; for a process of its own."""

    async def together() -> list[Film]:
        connected = asyncio.Barrier(streams)
        # They begin one after the other within a frame's time: cameras are not in step.
        films = (
            film(port, frames, connected, number / streams / rate, rate, seconds)
            for number in range(streams)
        )
        return await asyncio.gather(*films)

    return asyncio.run(together())


async def film(
    port: int,
    frames: list[bytes],
    connected: asyncio.Barrier,
    offset: float,
    rate: float,
    seconds: float,
) -> Film:
    """Sends the frames of one stream at their times, and reads its answers."""
    seen = Film()
    url = f"ws://127.0.0.1:{port}/v1/emotion/stream?model={MODEL}"
    async with connect(url, compression=None, max_queue=None) as socket:
        await connected.wait()
        start = time.monotonic() + offset
        reading = asyncio.create_task(read(socket, seen, start, rate))
        for number in range(round(rate * seconds)):
            intended = start + number / rate
            await asyncio.sleep(max(0.0, intended - time.monotonic()))
            seen.late = max(seen.late, time.monotonic() - intended)
            await socket.send(frames[number % len(frames)])
            seen.sent += 1
        await socket.send("end")
        await reading
    return seen


async def read(socket: ClientConnection, seen: Film, start: float, rate: float) -> None:
    """Reads all answers up to the close."""
    messages, before = 0, start
    try:
        while True:
            message = json.loads(await socket.recv())
            now = time.monotonic()
            if "end" in message:
                seen.received, seen.dropped = message["end"]["received"], message["end"]["dropped"]
                continue
            messages += 1
            seen.wrong += message["frame"] != messages + message["dropped"]
            seen.longest_gap, before = max(seen.longest_gap, now - before), now
            if "problem" in message:
                code = message["problem"]["code"]
                seen.problems[code] = seen.problems.get(code, 0) + 1
                continue
            seen.answered += 1
            seen.latencies.append(now - (start + (message["frame"] - 1) / rate))
            seen.tracks.update(face["track"] for face in message["faces"])
    except ConnectionClosed as closed:
        if closed.rcvd is None or closed.rcvd.code != 1000:
            raise


def summarize(
    films: list[Film],
    memory: list[tuple[float, float]],
    counted: dict[str, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Returns the result, with the goals."""
    answered = [film.answered for film in films]
    latencies = 1000 * np.array([one for film in films for one in film.latencies])
    difference = 1 - min(answered) / max(answered)
    settled = [size for seconds, size in memory if seconds >= memory[-1][0] / 4]
    growth = max(settled) / settled[0] - 1
    answers = sum(answered) + sum(sum(film.problems.values()) for film in films)
    by_metrics = {
        outcome: int(counted.get(f'{{outcome="{outcome}"}}', 0))
        for outcome in ("answered", "refused", "dropped")
    }
    return {
        **described(),
        "model": MODEL,
        "streams": options.streams,
        "frames_a_second_and_stream": options.rate,
        "seconds": options.seconds,
        "frame": f"JPEG of {SIZE[0]}x{SIZE[1]} with one face that moves",
        "sent": sum(film.sent for film in films),
        "answered": answers,
        "dropped": sum(film.dropped for film in films),
        "by_metrics": by_metrics,
        "answered_by_stream": answered,
        "dropped_by_stream": [film.dropped for film in films],
        "difference_between_streams": round(difference, 3),
        "answered_a_second": round(answers / options.seconds, 1),
        "latency_ms": {
            "p50": round(float(np.percentile(latencies, 50)), 1),
            "p95": round(float(np.percentile(latencies, 95)), 1),
            "p99": round(float(np.percentile(latencies, 99)), 1),
        },
        "longest_time_without_an_answer_s": round(max(film.longest_gap for film in films), 3),
        "generator_late_ms": round(1000 * max(film.late for film in films), 1),
        "tracks_of_a_stream": statistics.median(len(film.tracks) for film in films),
        "resident_mb_by_seconds": memory,
        "growth_after_a_quarter": round(growth, 4),
        "met": {
            f"frames answered per stream within {ALLOWED_DIFFERENCE:.0%}": difference
            <= ALLOWED_DIFFERENCE,
            "sent = answered + dropped, for each stream": all(
                film.sent == film.received
                and film.sent == film.answered + sum(film.problems.values()) + film.dropped
                and not film.wrong
                for film in films
            ),
            "the metrics count the same": sum(by_metrics.values())
            == sum(film.sent for film in films)
            and by_metrics["dropped"] == sum(film.dropped for film in films),
            "no frame was refused": not any(film.problems for film in films),
            f"memory flat within {ALLOWED_GROWTH:.0%} after a quarter": growth <= ALLOWED_GROWTH,
        },
    }


if __name__ == "__main__":
    main()
