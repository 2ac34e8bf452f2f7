# ruff: noqa: T201 - a script that talks to the person who runs it
"""What ``POST /v1/benchmark`` costs: its speed beside a bare ONNX Runtime loop, and live latency.

Starts the real server, then in one run, with nothing else on the machine:

1. faces per second of the endpoint and of a bare loop with the same number of threads over the
   same faces, in turns;
2. latency of single ``POST /v1/emotion`` requests at a fixed rate, from the time each should have
   been sent, with and without a benchmark beside them.

    python bench/benchmark_endpoint.py --data fer2013.zip

Writes ``bench/results/benchmark_endpoint.json``.
"""

import argparse
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import skimage.data
from ferserve.fer2013.reader import Split, read_fer2013
from ferserve.fer2013.splits import evaluation_splits
from ferserve.settings import installed_models, usable_cpus
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
BARE_BATCHES = (4, 32, 64)
ALLOWED_SHARE = 0.9
ALLOWED_FACTOR = 2.0


def main() -> None:
    """Measures and writes the results."""
    options = parse_arguments()
    print("reading the data set …", flush=True)
    split = evaluation_splits(read_fer2013(options.data))["all"]
    if options.limit:
        split = split.take(np.arange(options.limit) * len(split) // options.limit)
    with serving(options) as client:
        speed = compare_speed(client, options, split)
        live = compare_latency(client, options, speed["endpoint_batch_ms"])
    result = {
        "machine": describe_machine(),
        "model": options.model,
        "model_sha256": speed.pop("model_sha256"),
        "speed": speed,
        "live_latency": live,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FER2013")
    parser.add_argument("--model", default="custom_cnn")
    parser.add_argument("--limit", type=int, help="only that many of the 7,178 test faces")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=2.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each latency run")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "bench" / "results" / "benchmark_endpoint.json"
    )
    return parser.parse_args()


def compare_speed(
    client: httpx.Client, options: argparse.Namespace, split: Split
) -> dict[str, Any]:
    """Runs the bare loop at each batch size and the endpoint, in turns."""
    run_job(client, {"model": options.model, "limit": 64})  # the server reads its data set
    session = bare_session(options.model)
    bare: dict[int, list[float]] = {batch: [] for batch in BARE_BATCHES}
    endpoint: list[float] = []
    for number in range(options.rounds):
        for batch in BARE_BATCHES:
            bare[batch].append(bare_speed(session, split.faces, batch))
        job = run_job(client, {"model": options.model, "split": "all", "limit": options.limit})
        (result,) = job["result"]["results"]
        endpoint.append(result["faces_per_second"])
        rates = ", ".join(f"{batch}: {rates[-1]:.1f}" for batch, rates in bare.items())
        print(f"round {number + 1}: bare by batch {rates}; endpoint {endpoint[-1]:.1f}", flush=True)
    best = max(statistics.median(rates) for rates in bare.values())
    share = statistics.median(endpoint) / best
    return {
        "faces": len(split),
        "threads": usable_cpus(),
        "bare_faces_per_second_by_batch": bare,
        "endpoint_faces_per_second": endpoint,
        "endpoint_batch_ms": result["batch_latency_ms"],
        "endpoint_share_of_best_bare": share,
        "at_least_90_percent": share >= ALLOWED_SHARE,
        "model_sha256": result["model"]["sha256"],
    }


def bare_session(model: str) -> onnxruntime.InferenceSession:
    """One thread inside an inference, as the service has it."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    path = installed_models() / f"{model}.onnx"
    return onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"])


def bare_speed(session: onnxruntime.InferenceSession, faces: np.ndarray, batch: int) -> float:
    """Faces per second of a loop on as many threads as the service has workers."""

    def run(start: int) -> None:
        session.run(None, {"faces": faces[start : start + batch]})

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(run, range(0, batch * usable_cpus(), batch)))  # threads and memory are there
        started = time.perf_counter()
        list(pool.map(run, range(0, len(faces), batch)))
        return len(faces) / (time.perf_counter() - started)


def compare_latency(
    client: httpx.Client, options: argparse.Namespace, batch_ms: dict[str, float]
) -> dict[str, Any]:
    """Sends the same requests without and with a benchmark beside them."""
    send_requests(client, options, seconds=5)  # connections are open, caches are warm
    quiet = send_requests(client, options, options.seconds)
    with benchmark_beside(client, options.model):
        busy = send_requests(client, options, options.seconds)
    verdicts = {}
    for kind in quiet:
        allowed = ALLOWED_FACTOR * quiet[kind]["p99_ms"] + batch_ms["p99"]
        verdicts[kind] = {
            "allowed_p99_ms": allowed,
            "within": busy[kind]["p99_ms"] <= allowed,
        }
    return {
        "requests_per_second": options.rate,
        "without_benchmark": quiet,
        "with_benchmark": busy,
        "verdict": verdicts,
    }


def send_requests(
    client: httpx.Client, options: argparse.Namespace, seconds: float
) -> dict[str, dict[str, float]]:
    """Sends faces and photos in turns at a fixed rate, whether or not answers came (open loop)."""
    bodies = {"face_48x48": face_file(), "photo_512x512": photo_file()}
    kinds = list(bodies)
    count = int(seconds * options.rate)
    latencies: dict[str, list[float]] = {kind: [] for kind in kinds}
    lateness: list[float] = []
    began = time.perf_counter() + 0.2

    def send(number: int) -> None:
        intended = began + number / options.rate
        time.sleep(max(0.0, intended - time.perf_counter()))
        lateness.append(time.perf_counter() - intended)
        kind = kinds[number % len(kinds)]
        client.post("/v1/emotion", content=bodies[kind]).raise_for_status()
        latencies[kind].append(time.perf_counter() - intended)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(count)))
    print(f"{count} requests, sent at most {1000 * max(lateness):.1f} ms late", flush=True)
    return {
        kind: {
            "requests": len(values),
            **{
                f"p{share}_ms": 1000 * float(np.percentile(values, share)) for share in (50, 90, 99)
            },
            "max_ms": 1000 * max(values),
        }
        for kind, values in latencies.items()
    }


@contextmanager
def benchmark_beside(client: httpx.Client, model: str) -> Iterator[None]:
    """Keeps benchmarks running, one after another."""
    over = threading.Event()

    def keep_running() -> None:
        while not over.is_set():
            job = client.post("/v1/benchmark", json={"model": model, "split": "train"}).json()
            while not over.wait(0.5) and not client.get(job["links"]["self"]).json()["finished_at"]:
                pass
            client.delete(job["links"]["self"])

    thread = threading.Thread(target=keep_running)
    thread.start()
    time.sleep(3)
    try:
        yield
    finally:
        over.set()
        thread.join()


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


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[httpx.Client]:
    """Starts the server on a free port and ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "FERSERVE_DATASET": str(options.data.resolve()),
        "FERSERVE_MODELS": options.model,
        "FERSERVE_PROVIDER": "cpu",
        "FERSERVE_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ferserve", "serve"],
        cwd=REPOSITORY,
        env=os.environ | settings,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            wait_until_ready(client, process)
            yield client
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    """Waits until the server takes requests."""
    for _ in range(600):
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the server did not start; run `ferserve serve` to see why")


def face_file() -> bytes:
    """A 48x48 grey face: no detector runs."""
    return encoded(Image.fromarray(skimage.data.astronaut()).crop((161, 54, 289, 182)).convert("L"))


def photo_file() -> bytes:
    """A 512x512 photo in which the face has to be found."""
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(file, "JPEG", quality=90)
    return file.getvalue()


def encoded(face: Image.Image) -> bytes:
    """Shrinks a face to 48x48 and returns it as PNG."""
    file = io.BytesIO()
    face.resize((48, 48)).save(file, "PNG")
    return file.getvalue()


def describe_machine() -> dict[str, Any]:
    """Says what the figures hold for."""
    return {
        "processor": processor_name(),
        "usable_processors": usable_cpus(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "load_before": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def processor_name() -> str:
    """The processor's name where Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


if __name__ == "__main__":
    main()
