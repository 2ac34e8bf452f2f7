"""Whether the service's memory stays flat over 20,000 requests, faces and now and then a photo.

Keeps the service busy with a few clients and notes its memory every few seconds. Caches are filled
after a tenth of the requests: growth counts from there. One model is served.

    python bench/memory.py
"""

from collections import Counter

from ferserve.loadtest.generator import run
from ferserve.loadtest.plan import ClosedLoop, Plan
from ferserve.loadtest.statistics import summarize
from load import command_line, face, photo, serving, write_result

CLIENTS = 8
FACES_TO_A_PHOTO = 9
STRETCH_SECONDS = 5.0
ALLOWED_GROWTH = 0.05


def main() -> None:
    """Measures and writes the result."""
    options = command_line(__doc__, requests=20_000).parse_args()
    payloads = (*(face(),) * FACES_TO_A_PHOTO, photo())
    points: list[tuple[int, float]] = []
    errors: Counter[str] = Counter()
    done = 0
    with serving(models="custom_cnn") as service:
        url = f"{service.url}/v1/emotion"
        while done < options.requests:
            plan = Plan(url, ClosedLoop(CLIENTS), payloads, STRETCH_SECONDS, 0.0, seed=done)
            summary = summarize(run(plan))
            done += summary.sent
            errors.update(summary.errors)
            points.append((done, service.resident_mb()))
    settled, *later = [size for count, size in points if count >= options.requests / 10]
    growth = max([settled, *later]) / settled - 1
    result = {
        "requests": done,
        "clients": CLIENTS,
        "payloads": f"{FACES_TO_A_PHOTO} faces of 48x48 to a photo of 512x512",
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
