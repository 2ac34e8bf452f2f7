"""Whether clients that leave cost those that stay: 1,000 requests, half of them broken off.

Half of the clients close their connection at a random moment: while they send, while they wait, or
as the answer comes. The others' answers are compared with those given to the same photos alone.

    python bench/disconnects.py
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import skimage.data
from load import Service, command_line, encoded, serving, write_result
from PIL import Image

AT_ONCE = 32
LONGEST_SECONDS = 30.0
EMPTY_SECONDS = 10.0
TOLERANCE = 1e-5


def main() -> None:
    """Measures and writes the result."""
    options = command_line(__doc__, requests=1000).parse_args()
    photos = varied_photos()
    with serving() as service:
        alone = [service.client.post("/v1/emotion", content=data).json() for data in photos]
        before, started = service.resident_mb(), time.monotonic()
        outcomes = asyncio.run(send_all(service.url, photos, alone, options.requests))
        seconds = time.monotonic() - started
        empty_after = until_empty(service)
        dropped = {
            name: service.metric(f"ferserve_{name}_dropped_total") for name in ("images", "faces")
        }
        requests = service.metric("ferserve_http_requests_total")
        after = service.resident_mb()
    left = sum(count for labels, count in requests.items() if 'code="499"' in labels)
    result = {
        "requests": options.requests,
        "connections_at_a_time": AT_ONCE,
        "seconds": round(seconds, 1),
        "outcomes": dict(sorted(outcomes.items())),
        "left_as_the_server_counts": left,
        "dropped": dropped,
        "seconds_until_the_queue_was_empty": empty_after,
        "resident_mb": {"before": before, "after": after},
        "met": {
            "half left": outcomes["left"] == options.requests // 2,
            "the others were answered right": outcomes["left"] + outcomes["right"]
            == options.requests,
            "nothing hangs": not outcomes["hung"],
            "the queue is empty after": empty_after is not None,
        },
    }
    write_result("disconnects", result, options.out)


def varied_photos() -> list[bytes]:
    """Photos with one face or none, of several sizes."""
    chosen = (("astronaut", 128), ("astronaut", 200), ("chelsea", 160), ("coffee", 96))
    return [
        encoded(Image.fromarray(getattr(skimage.data, name)()).resize((side, side)))
        for name, side in chosen
    ]


async def send_all(
    url: str, photos: list[bytes], alone: list[dict[str, Any]], requests: int
) -> Counter[str]:
    """Sends all requests, ``AT_ONCE`` at a time, and counts what became of them."""
    chance = np.random.default_rng(0)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        chosen = chance.integers(len(photos))
        leaves_after = chance.uniform(0, 0.3) if number % 2 else None
        async with at_once:
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    answer = await send(url, photos[chosen], leaves_after)
            except TimeoutError:
                return "hung"
        if answer is None:
            return "left"
        return "right" if same_faces(answer, alone[chosen]) else f"wrong: {answer}"[:200]

    return Counter(await asyncio.gather(*(one(number) for number in range(requests))))


async def send(url: str, data: bytes, leaves_after: float | None) -> dict[str, Any] | None:
    """Sends a photo over a connection of its own; returns the answer, or None after leaving."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        "POST /v1/emotion HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode()
    with contextlib.closing(writer):
        if leaves_after is None:
            writer.write(head + data)
            answer: dict[str, Any] = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
            return answer
        # The shorter the stay, the less is sent: some leave in the middle of their photo.
        writer.write(head + data[: int(len(data) * min(1.0, leaves_after / 0.1))])
        await asyncio.sleep(leaves_after)
        writer.transport.abort()
        return None


def same_faces(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers have the same boxes and, but for rounding, the same scores."""
    faces, others = one.get("faces"), other["faces"]
    if faces is None or [face["box"] for face in faces] != [face["box"] for face in others]:
        return False
    scores = [[list(face["emotions"].values()) for face in some] for some in (faces, others)]
    return np.allclose(*scores, atol=TOLERANCE)


def until_empty(service: Service) -> float | None:
    """Returns the seconds until nothing waits and the service is ready; None if that takes 10."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < EMPTY_SECONDS:
        gauges = [
            service.metric(f"ferserve_{name}") for name in ("queue_faces", "images_under_way")
        ]
        if (
            not any(sum(gauge.values()) for gauge in gauges)
            and service.client.get("/readyz").status_code == 200
        ):
            return round(passed, 3)
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    main()
