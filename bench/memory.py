# ruff: noqa: T201 - a script that talks to the person who runs it
"""Whether the service's memory stays flat: 20,000 requests, faces and now and then a photo.

Starts the real server and keeps it busy with a few clients; after every few seconds its resident
memory is noted. What it holds after a tenth of the requests is the measure: caches are filled then.
It serves one model, because others that nobody asks would only make 5 % more.

    python bench/memory.py

Writes ``bench/results/memory.json``; ends with status 1 where it grew by more than 5 %.
"""

import argparse
from pathlib import Path
from typing import Any

from ferserve.loadtest.payloads import Payload
from ferserve.loadtest.plan import ClosedLoop, Plan
from ferserve.loadtest.processes import run
from ferserve.loadtest.statistics import summarize
from load import RESULTS, described, face, photo_640, resident_megabytes, serving, write_result

CLIENTS = 8
FACES_TO_A_PHOTO = 9
STRETCH_SECONDS = 5.0
ALLOWED_GROWTH = 0.05


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of memory.json")
    options = parser.parse_args()
    faces = (Payload(face(), "image/png"),) * FACES_TO_A_PHOTO
    payloads = (*faces, Payload(photo_640(), "image/jpeg"))
    points: list[tuple[int, float]] = []
    errors: dict[str, int] = {}
    done = 0
    with serving(models="custom_cnn") as server:
        while done < options.requests:
            url = f"{server.base_url}/v1/emotion"
            plan = Plan(url, ClosedLoop(CLIENTS), payloads, STRETCH_SECONDS, 0.0, seed=done)
            summary = summarize(run(plan))
            done += summary.sent
            for code, count in summary.errors.items():
                errors[code] = errors.get(code, 0) + count
            points.append((done, resident_megabytes(server)))
            print(f"{done:,} requests, {points[-1][1]} MB", flush=True)
    settled, *later = [size for count, size in points if count >= options.requests / 10]
    growth = max([settled, *later]) / settled - 1
    result: dict[str, Any] = {
        **described(),
        "requests": done,
        "clients": CLIENTS,
        "payloads": f"{FACES_TO_A_PHOTO} faces of 48x48 to a photo of 640x480",
        "errors": errors,
        "resident_mb_by_requests": points,
        "settled_mb": settled,
        "growth": round(growth, 4),
        "met": {
            f"flat within {ALLOWED_GROWTH:.0%} after a tenth": growth <= ALLOWED_GROWTH,
            "no errors": not errors,
        },
    }
    write_result("memory", result, options.out)


if __name__ == "__main__":
    main()
