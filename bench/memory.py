"""What memory the service takes: at rest, over 20,000 requests, and after hostile ones.

Serves the default model alone. A few clients keep it busy with faces and now and then a photo.
Caches are filled after a tenth of the requests: growth counts from there.

    python bench/memory.py
"""

import sys
from collections import Counter

from ferserve.loadtest.generator import run
from ferserve.loadtest.plan import ClosedLoop, Plan
from ferserve.loadtest.statistics import summarize
from ferserve.serving import DEFAULT_MODEL
from load import REPOSITORY, command_line, face, photo, serving, write_result

sys.path.append(str(REPOSITORY / "tests" / "support"))

from hostile import answer, cases

CLIENTS = 8
PAYLOADS = (*(face(),) * 9, photo())
STRETCH_SECONDS = 5.0
ALLOWED_AT_REST_MB = 250
ALLOWED_GROWTH = 0.05
ALLOWED_AFTER_HOSTILE_MB = 50


def main() -> None:
    options = command_line(__doc__, requests=20_000, rounds=3).parse_args()
    points: list[tuple[int, float]] = []
    errors: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    hostile = cases()
    done = 0
    with serving(models=DEFAULT_MODEL, max_upload_bytes=4 * 1024 * 1024) as service:
        at_rest = service.resident_mb()
        while done < options.requests:
            url = f"{service.url}/v1/emotion"
            plan = Plan(url, ClosedLoop(CLIENTS), PAYLOADS, STRETCH_SECONDS, 0.0, seed=done)
            summary = summarize(run(plan))
            done += summary.sent
            errors.update(summary.errors)
            points.append((done, service.resident_mb()))
        for case in options.rounds * hostile:
            status, _text = answer(int(service.url.rpartition(":")[2]), case.raw, case.silence)
            codes[str(status or "no answer")] += 1
        after_hostile = service.resident_mb()
        service.client.post("/v1/emotion", content=photo().data).raise_for_status()
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
        "hostile_requests": options.rounds * len(hostile),
        "hostile_codes": codes,
        "after_hostile_mb": after_hostile,
        "met": {
            f"at rest at most {ALLOWED_AT_REST_MB} MB": at_rest <= ALLOWED_AT_REST_MB,
            f"flat within {ALLOWED_GROWTH:.0%} after a tenth": growth <= ALLOWED_GROWTH,
            "no errors": not errors,
            "hostile requests: no 5xx": not any(code.startswith("5") for code in codes),
            f"hostile requests: at most {ALLOWED_AFTER_HOSTILE_MB} MB more": after_hostile
            <= points[-1][1] + ALLOWED_AFTER_HOSTILE_MB,
        },
    }
    write_result("memory", result, options.out)


if __name__ == "__main__":
    main()
