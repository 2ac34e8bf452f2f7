"""What memory the service takes: at rest, and over 20,000 requests.

Serves the default model alone. A few clients keep it busy with faces and now and then a photo.
Caches are filled after a tenth of the requests: growth counts from there. What hostile requests
leave, ``tests/hostile`` measures.

    python bench/memory.py
"""

from collections import Counter

from ferserve.loadtest.generator import run
from ferserve.loadtest.plan import ClosedLoop, Plan
from ferserve.loadtest.statistics import summarize
from ferserve.serving import DEFAULT_MODEL
from load import command_line, face, photo, serving, write_result

CLIENTS = 8
PAYLOADS = (*(face(),) * 9, photo())
STRETCH_SECONDS = 5.0
ALLOWED_AT_REST_MB = 250
ALLOWED_GROWTH = 0.05


def main() -> None:
    options = command_line(__doc__, requests=20_000).parse_args()
    points: list[tuple[int, float]] = []
    errors: Counter[str] = Counter()
    done = 0
    with serving(models=DEFAULT_MODEL) as service:
        at_rest = service.resident_mb()
        while done < options.requests:
            url = f"{service.url}/v1/emotion"
            plan = Plan(url, ClosedLoop(CLIENTS), PAYLOADS, STRETCH_SECONDS, 0.0, seed=done)
            summary = summarize(run(plan))
            done += summary.sent
            errors.update(summary.errors)
            points.append((done, service.resident_mb()))
    settled, *later = [size for count, size in points if count >= options.requests / 10]
    growth = max([settled, *later]) / settled - 1
    result = {
        "model": DEFAULT_MODEL,
        "at_rest_mb": at_rest,
        "requests": done,
        "errors": errors,
        "resident_mb_by_requests": points,
        "settled_mb": settled,
        "growth": round(growth, 4),
        "met": {
            f"at rest at most {ALLOWED_AT_REST_MB} MB": at_rest <= ALLOWED_AT_REST_MB,
            f"flat within {ALLOWED_GROWTH:.0%} after a tenth": growth <= ALLOWED_GROWTH,
            "no errors": not errors,
        },
    }
    write_result("memory", result, options.out)


if __name__ == "__main__":
    main()
