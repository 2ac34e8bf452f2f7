"""Whether the service keeps its word at four times its capacity.

1. Capacity: clients that each send their next photo when the last was answered.
2. Overload: photos at four times that rate, with Poisson arrivals that no answer can delay;
   a request's time counts from when it should have been sent.
3. How soon after the last of them the service has answered those it took, is ready and answers
   another one, and how much memory it held.

    python bench/overload.py
"""

import time

from ferserve.loadtest.generator import run
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan
from ferserve.loadtest.statistics import summarize
from ferserve.settings import Settings, usable_cpus
from load import command_line, photo, serving, write_result

FACTOR = 4.0
ALLOWED_ERRORS = {"429", "504"}
ALLOWED_SHARE = 0.8
ALLOWED_MB = 300.0  # beside the service at rest: a full queue of uploads
LATE_SECONDS = 0.5  # a generator later than this at the 99th percentile has missed its times


def main() -> None:
    options = command_line(__doc__, seconds=60.0).parse_args()
    with serving() as service:
        url, sent = f"{service.url}/v1/emotion", (photo(),)
        clients = ClosedLoop(2 * usable_cpus())
        capacity = summarize(run(Plan(url, clients, sent, options.seconds / 4))).rate
        at_rest = service.resident_mb()
        sizes = [at_rest]
        plan = Plan(url, OpenLoop(FACTOR * capacity), sent, options.seconds, 0.0, timeout=60.0)
        measurement = run(plan, lambda _: sizes.append(service.resident_mb()))
        summary = summarize(measurement, max_lag=LATE_SECONDS)
        began = time.monotonic()
        service.until_ready()
        service.client.post("/v1/emotion", content=photo().data).raise_for_status()
        answered = measurement.intended + measurement.latency
        waited = float(answered.max() - measurement.intended.max())
        recovery = waited + time.monotonic() - began
    deadline = Settings().request_timeout_ms / 1000
    p99 = summary.latency_ms["p99"]
    result = {
        "capacity_per_second": round(capacity, 2),
        "offered_per_second": round(FACTOR * capacity, 2),
        "seconds": options.seconds,
        "codes": {"200": summary.answered, **summary.errors},
        "goodput_per_second": round(summary.rate, 2),
        "admitted_seconds_p99": p99 and round(p99 / 1000, 4),
        "deadline_seconds": deadline,
        "resident_mb": {"at rest": at_rest, "largest": max(sizes)},
        "seconds_to_recover": round(recovery, 3),
        "met": {
            "only 200, 429 and 504": set(summary.errors) <= ALLOWED_ERRORS,
            f"goodput above {ALLOWED_SHARE:.0%} of capacity": summary.rate
            > ALLOWED_SHARE * capacity,
            "p99 of the admitted under the deadline": p99 is not None and p99 < 1000 * deadline,
            "memory bounded": max(sizes) - at_rest <= ALLOWED_MB,
            "answers again within the deadline after": recovery <= deadline,
            "the generator kept its times": summary.valid,
        },
    }
    write_result("overload", result, options.out)


if __name__ == "__main__":
    main()
