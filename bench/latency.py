"""What the service adds to a lone request with a pre-cropped face, apart from inference.

Starts the real server and sends one face after another over one connection. The time from a
request's first byte to the end of its answer, less the inference that the answer itself reports
(``timing_ms``), is what HTTP, decoding, queueing, and the way to the service and back took. The
client is a bare socket: ``http.client`` took 0.16 ms more a request, ``httpx`` takes about 1 ms.

    python bench/latency.py

Writes ``bench/results/latency.json``; ends with status 1 where the median is 2 ms or more.
"""

import argparse
import json
import re
import socket
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
    with (
        serving(models="custom_cnn") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = request_of(face())
        rows = [ask(connection, request) for _ in range(WARM_UP + options.requests)][WARM_UP:]
    parts = {name: quantiles([row[name] for row in rows]) for name in rows[0]}
    added = parts["added"]["p50"]
    result: dict[str, Any] = {
        **described(),
        "requests": len(rows),
        "milliseconds": parts,
        "met": {f"adds less than {ALLOWED_MS:g} ms to a lone request": added < ALLOWED_MS},
    }
    write_result("latency", result, options.out)


def request_of(data: bytes) -> bytes:
    """Returns what a client sends to have an image rated."""
    head = (
        "POST /v1/emotion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def ask(connection: socket.socket, request: bytes) -> dict[str, float]:
    """Sends a request; returns where the time went, milliseconds."""
    started = time.perf_counter()
    connection.sendall(request)
    status, body = answer(connection)
    wall = 1000 * (time.perf_counter() - started)
    if status != 200:
        raise SystemExit(f"answered {status}: {body.decode(errors='replace')}")
    timing: dict[str, float] = json.loads(body)["timing_ms"]
    return {
        "wall": wall,
        **{name: timing[name] for name in ("decode", "detect", "queue", "inference")},
        "outside_the_recognizer": wall - timing["total"],
        "added": wall - timing["inference"],
    }


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Reads an answer whose length its head tells: its status and its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
    while len(body) < length:
        body += more(connection)
    return int(head.split(b" ", 2)[1]), body


def more(connection: socket.socket) -> bytes:
    """Returns what has come; something always does, as long as the service is there."""
    received = connection.recv(65536)
    if not received:
        raise SystemExit("the service closed the connection")
    return received


def quantiles(values: list[float]) -> dict[str, float]:
    """Returns some percentiles, rounded to a microsecond."""
    return {
        f"p{share}": round(float(value), 3)
        for share, value in zip((50, 90, 99), np.percentile(values, (50, 90, 99)), strict=True)
    }


if __name__ == "__main__":
    main()
