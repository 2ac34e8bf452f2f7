"""What the service adds to a lone request with a face already cut out, apart from inference.

The time from a request's first byte to the end of its answer, less the inference that the answer
reports (``timing_ms``), is what HTTP, decoding and queueing took, the client's own time among it.

    python bench/latency.py
"""

import http.client
import json
import time

import numpy as np
from ferserve.serving import DEFAULT_MODEL
from load import command_line, face, serving, write_result

ALLOWED_MS = 2.0
WARM_UP = 100


def main() -> None:
    options = command_line(__doc__, requests=1000).parse_args()
    with serving(models=DEFAULT_MODEL) as service:
        connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
        rows = [ask(connection) for _ in range(WARM_UP + options.requests)][WARM_UP:]
    parts = {}
    for name in rows[0]:
        p50, p99 = np.percentile([row[name] for row in rows], (50, 99)).round(3).tolist()
        parts[name] = {"p50": p50, "p99": p99}
    result = {
        "model": DEFAULT_MODEL,
        "requests": len(rows),
        "milliseconds": parts,
        "met": {f"adds less than {ALLOWED_MS:g} ms": parts["added"]["p50"] < ALLOWED_MS},
    }
    write_result("latency", result, options.out)


def ask(connection: http.client.HTTPConnection) -> dict[str, float]:
    """Sends a face; returns where the time went, milliseconds."""
    sent = face()
    started = time.perf_counter()
    connection.request("POST", "/v1/emotion", sent.data, {"Content-Type": sent.content_type})
    response = connection.getresponse()
    body = response.read()
    wall = 1000 * (time.perf_counter() - started)
    if response.status != 200:
        raise SystemExit(f"answered {response.status}: {body.decode(errors='replace')}")
    timing: dict[str, float] = json.loads(body)["timing_ms"]
    return {"wall": wall, **timing, "added": wall - timing["inference"]}


if __name__ == "__main__":
    main()
