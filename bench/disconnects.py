"""Whether clients that leave cost those that stay: 1,000 requests, half of them broken off.

Half of the clients close their connection at a random moment: while they send, while they wait, or
as the answer comes. The others' answers are compared with those given to the same photos alone.

    python bench/disconnects.py
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import skimage.data
from load import Service, command_line, encoded, serving, write_result
from PIL import Image

AT_ONCE = 32
LONGEST_SECONDS = 30.0
EMPTY_SECONDS = 10.0
TOLERANCE = 1e-5
PHOTOS = (("astronaut", 128), ("astronaut", 200), ("chelsea", 160), ("coffee", 96))
"""With one face or none, and their sides in pixels."""


def main() -> None:
    options = command_line(__doc__, requests=1000).parse_args()
    photos = [
        encoded(Image.fromarray(getattr(skimage.data, name)()).resize((side, side)))
        for name, side in PHOTOS
    ]
    with serving() as service:
        alone = [service.client.post("/v1/emotion", content=data).json() for data in photos]
        outcomes = asyncio.run(send_all(service.url, photos, alone, options.requests))
        empty_after = until_empty(service)
    stayed = options.requests - outcomes["left"]
    result = {
        "requests": options.requests,
        "connections_at_a_time": AT_ONCE,
        "outcomes": outcomes,
        "seconds_until_the_queue_was_empty": empty_after,
        "met": {
            "at least a third left": outcomes["left"] >= options.requests // 3,
            "the others were answered right": outcomes["right"] == stayed,
            "the queue is empty after": empty_after is not None,
        },
    }
    write_result("disconnects", result, options.out)


async def send_all(
    url: str, photos: list[bytes], alone: list[dict[str, Any]], requests: int
) -> Counter[str]:
    """Sends all requests, ``AT_ONCE`` at a time, and counts what became of them."""
    chance = np.random.default_rng(0)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(client: httpx.AsyncClient, number: int) -> str:
        chosen = chance.integers(len(photos))
        stays = chance.uniform(0, 0.3) if number % 2 else LONGEST_SECONDS
        async with at_once:
            try:
                async with asyncio.timeout(stays):
                    answer = await client.post("/v1/emotion", content=halves(photos[chosen]))
            except TimeoutError:
                return "left" if stays < LONGEST_SECONDS else "hung"
        return "right" if same_faces(answer.json(), alone[chosen]) else f"wrong: {answer}"

    limits = httpx.Limits(max_keepalive_connections=0)  # a connection for each
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        return Counter(await asyncio.gather(*(one(client, number) for number in range(requests))))


async def halves(data: bytes) -> AsyncIterator[bytes]:
    """A photo in two halves, so that some clients leave between them."""
    yield data[: len(data) // 2]
    await asyncio.sleep(0.05)
    yield data[len(data) // 2 :]


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
        waiting = any(sum(gauge.values()) for gauge in gauges)
        if not waiting and service.client.get("/readyz").status_code == 200:
            return round(passed, 3)
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    main()
