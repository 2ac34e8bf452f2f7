"""What the service adds to a lone request with a pre-cropped face, apart from inference.

Starts the real server and sends one face after another over one connection. The time from a
request's first byte to the end of its answer, less the inference that the answer itself reports
(``timing_ms``), is what HTTP, decoding, queueing, and the client in this script took.

    python bench/latency.py

Writes ``bench/results/latency.json``; ends with status 1 where the median is 2 ms or more.
"""

import argparse
import http.client
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from load import RESULTS, described, face, serving, write_result

ALLOWED_MS = 2.0
WARM_UP = 100


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of latency.json")
    options = parser.parse_args()
    with serving(models="custom_cnn") as server:
        # Not httpx: it alone takes about a millisecond a request.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        rows = [ask(connection, face()) for _ in range(WARM_UP + options.requests)][WARM_UP:]
        connection.close()
    parts = {name: quantiles([row[name] for row in rows]) for name in rows[0]}
    added = parts["added"]["p50"]
    result: dict[str, Any] = {
        **described(),
        "requests": len(rows),
        "milliseconds": parts,
        "met": {f"adds less than {ALLOWED_MS:g} ms to a lone request": added < ALLOWED_MS},
    }
    write_result("latency", result, options.out)


def ask(connection: http.client.HTTPConnection, data: bytes) -> dict[str, float]:
    """Sends one face; returns where the time went, milliseconds."""
    started = time.perf_counter()
    connection.request("POST", "/v1/emotion", data, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    body = answer.read()
    wall = 1000 * (time.perf_counter() - started)
    if answer.status != 200:
        raise SystemExit(f"answered {answer.status}: {body.decode(errors='replace')}")
    timing: dict[str, float] = json.loads(body)["timing_ms"]
    return {
        "wall": wall,
        **{name: timing[name] for name in ("decode", "detect", "queue", "inference")},
        "outside_the_recognizer": wall - timing["total"],
        "added": wall - timing["inference"],
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """Returns some percentiles, rounded to a microsecond."""
    return {
        f"p{share}": round(float(value), 3)
        for share, value in zip((50, 90, 99), np.percentile(values, (50, 90, 99)), strict=True)
    }


if __name__ == "__main__":
    main()
