"""Whether clients that leave cost those that stay: 1,000 requests, half of them broken off.

Starts the real server and sends photos over many connections at a time. Half of the clients close
their connection at a random moment: while sending, while waiting, or as the answer comes. The
others' answers are compared with those given to the same photos alone.

    python bench/disconnects.py

Writes ``bench/results/disconnects.json``; ends with status 1 where a goal of it was missed.
"""

import argparse
import asyncio
import io
import json
import time
from collections import Counter
from typing import Any

import numpy as np
import skimage.data
from load import Server, described, metric, resident_megabytes, serving, write_result
from PIL import Image

AT_ONCE = 32
LONGEST_SECONDS = 30.0
TOLERANCE = 1e-5


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    photos = varied_photos()
    with serving() as server:
        alone = [server.client.post("/v1/emotion", content=data).json() for data in photos]
        before = resident_megabytes(server)
        started = time.monotonic()
        outcomes = asyncio.run(send_all(server, photos, alone, options.requests))
        seconds = time.monotonic() - started
        empty_after = until_empty(server)
        under_way = metric(server.client, "ferserve_queue_faces")
        dropped = {
            name: metric(server.client, f"ferserve_{name}_dropped_total")
            for name in ("images", "faces")
        }
        left = sum(
            value
            for labels, value in metric(server.client, "ferserve_http_requests_total").items()
            if 'code="499"' in labels
        )
        after = resident_megabytes(server)
    result: dict[str, Any] = {
        **described(),
        "requests": options.requests,
        "connections_at_a_time": AT_ONCE,
        "seconds": round(seconds, 1),
        "outcomes": dict(sorted(outcomes.items())),
        "left_as_the_server_counts": left,
        "dropped": dropped,
        "queue_after": under_way,
        "seconds_until_the_queue_was_empty": empty_after,
        "resident_mb": {"before": before, "after": after},
    }
    result["met"] = {
        "half left": abs(outcomes["left"] - options.requests / 2) < 0.1 * options.requests,
        "the others were answered right": outcomes["left"] + outcomes["right"] == options.requests,
        "nothing hangs": not outcomes["hung"],
        "the queue is empty after": empty_after is not None,
    }
    write_result("disconnects", result)


def varied_photos() -> list[bytes]:
    """Photos with one face or none, of several sizes."""
    photos = []
    for name, side in (("astronaut", 128), ("astronaut", 200), ("chelsea", 160), ("coffee", 96)):
        file = io.BytesIO()
        Image.fromarray(getattr(skimage.data, name)()).resize((side, side)).save(file, "JPEG")
        photos.append(file.getvalue())
    return photos


async def send_all(
    server: Server, photos: list[bytes], alone: list[dict[str, Any]], requests: int
) -> Counter[str]:
    """Sends all requests, ``AT_ONCE`` at a time, and counts what became of them."""
    chance = np.random.default_rng(0)
    leaving = [number % 2 == 0 for number in range(requests)]
    chance.shuffle(leaving)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, leaves_after: float | None) -> str:
        chosen = number % len(photos)
        async with at_once:
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    answer = await send(server, photos[chosen], leaves_after)
            except TimeoutError:
                return "hung"
        if answer is None:
            return "left"
        return "right" if same_faces(answer, alone[chosen]) else f"wrong: {answer}"[:200]

    return Counter(
        await asyncio.gather(
            *(
                one(number, chance.uniform(0, 0.3) if leaves else None)
                for number, leaves in enumerate(leaving)
            )
        )
    )


async def send(server: Server, data: bytes, leaves_after: float | None) -> dict[str, Any] | None:
    """Sends one photo over a connection of its own; returns the answer, or None after leaving."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = (
        f"POST /v1/emotion HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    try:
        if leaves_after is None:
            writer.write(head.encode() + data)
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            answer: dict[str, Any] = json.loads(body)
            return answer
        # The shorter the stay, the less is sent: some leave in the middle of their photo.
        sent = int(len(data) * min(1.0, leaves_after / 0.1))
        writer.write(head.encode() + data[:sent])
        await asyncio.sleep(leaves_after)
        writer.transport.abort()
        return None
    finally:
        writer.close()


def same_faces(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers have the same boxes and, but for rounding, the same scores."""
    faces, others = one.get("faces"), other["faces"]
    return (
        faces is not None
        and [face["box"] for face in faces] == [face["box"] for face in others]
        and all(
            np.allclose(list(a["emotions"].values()), list(b["emotions"].values()), atol=TOLERANCE)
            for a, b in zip(faces, others, strict=True)
        )
    )


def until_empty(server: Server) -> float | None:
    """Returns the seconds until nothing waits and the service is ready; None if it takes 10."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        waiting = sum(
            sum(metric(server.client, name).values())
            for name in ("ferserve_queue_faces", "ferserve_images_under_way")
        )
        if not waiting and server.client.get("/readyz").status_code == 200:
            return round(time.monotonic() - started, 3)
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    main()
