"""What ``POST /v1/benchmark`` costs: its speed beside the bare runtime, and live latency beside it.

1. Faces a second of the endpoint and of a bare loop with as many threads, in turns.
2. Latency of single requests at a fixed rate, with and without a benchmark beside them.

    python bench/benchmark_endpoint.py --data fer2013.zip
"""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from ferserve.loadtest.generator import run
from ferserve.loadtest.plan import OpenLoop, Plan
from ferserve.loadtest.statistics import summarize
from ferserve.settings import installed_models
from load import Service, command_line, face, photo, serving, write_result
from peers.bare import bare_loop

MODEL = "custom_cnn"
BARE_BATCHES = (4, 32)
RATE = 4.0
JOBS = 4
ALLOWED_SHARE = 0.9
ALLOWED_FACTOR = 2.0


def main() -> None:
    """Measures and writes the result."""
    parser = command_line(__doc__, limit=7178, rounds=2, seconds=30.0)
    parser.add_argument("--data", type=Path, required=True, help="FER2013")
    options = parser.parse_args()
    with serving(dataset=options.data.resolve(), models=MODEL, provider="cpu") as service:
        speed = compare_speed(service.client, options.limit, options.rounds, options.seconds / 3)
        alone = latencies(service, options.seconds)
        with benchmark_beside(service.client):
            beside = latencies(service, options.seconds)
    share = speed["endpoint_share_of_best_bare"]
    met = {f"at least {ALLOWED_SHARE} of the best bare loop": share >= ALLOWED_SHARE}
    for kind in alone:
        allowed = ALLOWED_FACTOR * alone[kind]["p99_ms"] + speed["endpoint_batch_ms"]["p99"]
        goal = f"{kind}: p99 at most {ALLOWED_FACTOR:g} x as high beside a benchmark, and a batch"
        met[goal] = beside[kind]["p99_ms"] <= allowed
        met[f"{kind}: measurements valid"] = not (alone[kind]["faults"] or beside[kind]["faults"])
    live = {"requests_per_second": RATE, "without_benchmark": alone, "with_benchmark": beside}
    result = {"model": MODEL, "speed": speed, "live_latency": live, "met": met}
    write_result("benchmark_endpoint", result, options.out)


def compare_speed(client: httpx.Client, limit: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Runs the bare loop at each batch size and the endpoint, in turns."""
    run_job(client, {"model": MODEL, "limit": 64})  # the service reads its data set
    model, cores = installed_models() / f"{MODEL}.onnx", sorted(os.sched_getaffinity(0))
    bare: dict[int, list[float]] = {batch: [] for batch in BARE_BATCHES}
    endpoint: list[float] = []
    for _ in range(rounds):
        for batch, rates in bare.items():
            rates.append(bare_loop(model, cores, batch, seconds)["faces_per_second"])
        job = run_job(client, {"model": MODEL, "split": "all", "limit": limit})
        (result,) = job["result"]["results"]
        endpoint.append(result["faces_per_second"])
    best = max(statistics.median(rates) for rates in bare.values())
    return {
        "faces": limit,
        "bare_faces_per_second_by_batch": bare,
        "endpoint_faces_per_second": endpoint,
        "endpoint_batch_ms": result["batch_latency_ms"],
        "endpoint_share_of_best_bare": statistics.median(endpoint) / best,
    }


def latencies(service: Service, seconds: float) -> dict[str, dict[str, Any]]:
    """Sends faces, then photos, at a fixed rate; returns their latency."""
    found = {}
    for kind, payload in (("face_48x48", face()), ("photo_512x512", photo())):
        plan = Plan(f"{service.url}/v1/emotion", OpenLoop(RATE), (payload,), seconds)
        summary = summarize(run(plan))
        shares = {f"{name}_ms": summary.latency_ms[name] for name in ("p50", "p90")}
        # With some hundred requests the largest stands for a p99 that cannot be told.
        p99 = summary.latency_ms["p99"] or summary.latency_ms["max"]
        faults = [*summary.faults, *summary.errors]
        found[kind] = {"requests": summary.sent, **shares, "p99_ms": p99, "faults": faults}
    return found


@contextmanager
def benchmark_beside(client: httpx.Client) -> Iterator[None]:
    """Keeps benchmarks running: as many as may be queued, one after another.

    Raises:
        RuntimeError: All ended too early.
    """
    asked = {"model": MODEL, "split": "train"}
    posted = [client.post("/v1/benchmark", json=asked).raise_for_status() for _ in range(JOBS)]
    jobs = [job.json()["links"]["self"] for job in posted]
    while client.get(jobs[0]).json()["status"] == "queued":
        time.sleep(0.1)
    yield
    if client.get(jobs[-1]).json()["finished_at"]:
        raise RuntimeError("the benchmarks ended before the requests did")
    for job in reversed(jobs):
        client.delete(job)


def run_job(client: httpx.Client, asked: dict[str, Any]) -> dict[str, Any]:
    """Runs a benchmark to its end; following its events costs the server the least."""
    job = client.post("/v1/benchmark", json=asked).raise_for_status().json()
    with client.stream("GET", job["links"]["events"]) as events:
        for _ in events.iter_lines():
            pass
    ended: dict[str, Any] = client.get(job["links"]["self"]).json()
    if ended["status"] != "succeeded":
        raise RuntimeError(f"the benchmark {ended['status']}: {ended['problem']}")
    return ended


if __name__ == "__main__":
    main()
