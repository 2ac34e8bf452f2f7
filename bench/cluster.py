"""What a second replica of a model brings, and what it costs to lose one.

For one replica and for two, ``ferserve serve --engine ray`` is started and, with nothing else on
the machine:

1. capacity: a few clients that each send their next face when the last was answered;
2. latency: faces at Poisson-distributed times (an open loop), at a share of one replica's capacity
   that is the same for both;
3. with two replicas, the same load while one is killed: what became of every request, and how long
   until there were two again.

    python bench/cluster.py

Faces are sent cut out, and to a large model, so that the replicas and not Ray's proxy or the
ingress have the work. Writes ``bench/results/cluster.json``; ends with status 1 where a request was
answered wrong or not at all.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from ferserve.loadtest.payloads import Payload
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan
from ferserve.loadtest.processes import run
from ferserve.loadtest.statistics import Summary, summarize
from load import REPOSITORY, RESULTS, described, face, write_result

START_UP_SECONDS = 180
REPLACEMENT_SECONDS = 120
CLIENTS = 16
REPLICA = b"ray::ServeReplica:ferserve:model-"


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="resnet50v2")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--load", type=float, default=0.6, help="Share of one replica's capacity")
    parser.add_argument("--replica-cpus", type=float, default=1, help="What each reserves")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of cluster.json")
    options = parser.parse_args()
    measured: dict[int, dict[str, Any]] = {}
    rate = 0.0
    for replicas in (1, 2):
        with serving(options.model, replicas, options.replica_cpus) as url:
            capacity = drive(url, ClosedLoop(CLIENTS), options.seconds)
            rate = rate or options.load * capacity.rate
            latency = drive(url, OpenLoop(rate), options.seconds)
            measured[replicas] = {"capacity": told(capacity), "open_loop": told(latency)}
            if replicas == 2:
                killed = kill_one(url, rate, options.seconds)
    one, two = (measured[replicas]["capacity"]["rate_per_second"] for replicas in (1, 2))
    result: dict[str, Any] = {
        **described(),
        "model": options.model,
        "payload": "face 48x48, PNG",
        "workers_a_replica": max(1, round(options.replica_cpus)),
        "replicas": measured,
        "capacity_of_two_to_one": round(two / one, 3),
        "one_of_two_killed": killed,
    }
    known = {"200", "429", "503", "504"}
    result["met"] = {
        "no wrong answer after a kill": killed["wrong"] == 0,
        "every request was answered, by a problem at worst": set(killed["codes"]) <= known,
        "the replica was replaced": killed["seconds_until_two_again"] is not None,
    }
    write_result("cluster", result, options.out)


@contextmanager
def serving(model: str, replicas: int, cpus: float) -> Iterator[str]:
    """Starts the cluster; yields its address, and ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "FERSERVE_MODELS": model,
        "FERSERVE_CLUSTER_MIN_REPLICAS": str(replicas),
        "FERSERVE_CLUSTER_MAX_REPLICAS": str(replicas),
        "FERSERVE_CLUSTER_REPLICA_CPUS": str(cpus),
    }
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "ferserve", "serve", "--engine", "ray", "--port", str(port)],
        cwd=REPOSITORY,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + START_UP_SECONDS
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > give_up:
                sys.exit("the cluster did not become ready")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    """Asks ``/readyz``."""
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def drive(url: str, load: OpenLoop | ClosedLoop, seconds: float) -> Summary:
    """Sends faces."""
    payload = Payload(face(), "image/png")
    return summarize(run(Plan(f"{url}/v1/emotion", load, (payload,), seconds=seconds)))


def told(summary: Summary) -> dict[str, Any]:
    """Returns what of a run goes into the result."""
    return {
        "load": summary.load,
        "rate_per_second": round(summary.rate, 2),
        "latency_ms": {
            name: None if value is None else round(value, 2)
            for name, value in summary.latency_ms.items()
        },
        "errors": summary.errors,
        "valid": summary.valid,
        "faults": summary.faults,
    }


def kill_one(url: str, rate: float, seconds: float) -> dict[str, Any]:
    """Kills one of the replicas in the middle of a load; says what became of the requests."""
    expected = ask(url).json()["faces"][0]["dominant_emotion"]
    before = replicas_running()
    until_two: list[float] = []
    wrong = Counter[str]()
    over = threading.Event()

    def kill() -> None:
        time.sleep(seconds / 3)
        os.kill(before[0], signal.SIGKILL)
        killed_at = time.monotonic()
        while time.monotonic() < killed_at + REPLACEMENT_SECONDS:
            if len(set(replicas_running()) - {before[0]}) == len(before) and is_ready(url):
                until_two.append(time.monotonic() - killed_at)
                return
            time.sleep(0.1)

    def look() -> None:
        while not over.is_set():
            answer = ask(url)
            if answer.status_code == 200:
                found = answer.json()["faces"][0]["dominant_emotion"]
                wrong["right" if found == expected else "wrong"] += 1

    killing, looking = threading.Thread(target=kill), threading.Thread(target=look)
    killing.start()
    looking.start()
    summary = drive(url, OpenLoop(rate), seconds)
    killing.join()
    over.set()
    looking.join()
    return {
        **told(summary),
        "codes": {"200": summary.answered, **summary.errors},
        "looked_at": dict(wrong),
        "wrong": wrong["wrong"],
        "faces_retried": total(url, "ferserve_faces_retried_total"),
        "faces_lost": total(url, "ferserve_faces_lost_total"),
        "seconds_until_two_again": round(until_two[0], 2) if until_two else None,
    }


def ask(url: str) -> httpx.Response:
    """Sends one face."""
    return httpx.post(f"{url}/v1/emotion", content=face(), timeout=60)


def total(url: str, name: str) -> float:
    """Returns the sum of a metric over all replicas."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def replicas_running() -> list[int]:
    """Returns the ids of the models' processes, by the title that Ray gives them."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(REPLICA):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return sorted(found)


if __name__ == "__main__":
    main()
