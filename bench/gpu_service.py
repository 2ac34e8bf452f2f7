"""The service end to end: faces a second through ``POST /v1/emotion/batch``."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from ferserve.loadtest.payloads import Payload, sample_face
from ferserve.loadtest.plan import ClosedLoop, Plan
from ferserve.loadtest.processes import run
from ferserve.loadtest.statistics import summarize

REPOSITORY = Path(__file__).resolve().parents[1]
START_UP_SECONDS = 300
FACES_A_REQUEST = 32
WARM_UP_SECONDS = 2.0


class ServiceFailed(RuntimeError):  # noqa: N818 - an event
    """The service did not start or answer; the message says what it printed."""


def measure(
    settings: dict[str, Any], clients: Sequence[int], seconds: float, log: Path
) -> dict[str, Any]:
    """Starts the service and drives it with several numbers of clients; returns the best.

    Args:
        settings: Of the service; what the environment sets stays.
        clients: Of the closed loops, tried one after another.
        seconds: Of each.
        log: File for what the service prints.

    Raises:
        ServiceFailed: It did not start, or answered wrongly.
    """
    with _serving(settings, log) as base:
        url = f"{base}/v1/emotion/batch?detect=false"
        payload = _request(url)
        runs = [_drive(url, payload, number, seconds) for number in clients]
    return max(runs, key=lambda one: one["faces_per_second"])


def _drive(url: str, payload: Payload, clients: int, seconds: float) -> dict[str, Any]:
    processes = max(1, min(clients, (os.cpu_count() or 2) // 2))
    plan = Plan(
        url,
        ClosedLoop(clients),
        (payload,),
        seconds=seconds,
        warm_up=WARM_UP_SECONDS,
        processes=processes,
        timeout=120,
    )
    summary = summarize(run(plan))
    return {
        "clients": clients,
        "faces_per_second": FACES_A_REQUEST * summary.rate,
        "latency_ms": summary.latency_ms,
        "errors": summary.errors,
        "faults": summary.faults,
    }


def _request(url: str) -> Payload:
    """Returns a body with many faces, after seeing that it is answered in full."""
    face = sample_face()
    files = [("files", (f"{i}.png", face.data, face.content_type)) for i in range(FACES_A_REQUEST)]
    request = httpx.Request("POST", url, files=files)
    payload = Payload(request.read(), request.headers["Content-Type"])
    answer = httpx.post(
        url, content=payload.data, headers={"Content-Type": payload.content_type}, timeout=120
    )
    if answer.status_code != 200:
        raise ServiceFailed(f"answers {answer.status_code}: {answer.text[:500]}")
    if (answered := sum("result" in item for item in answer.json()["items"])) < FACES_A_REQUEST:
        raise ServiceFailed(f"answers {answered} of {FACES_A_REQUEST} faces: {answer.text[:500]}")
    return payload


@contextmanager
def _serving(settings: dict[str, Any], log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = {f"FERSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "ferserve", "serve", "--port", str(port)],
            cwd=REPOSITORY,
            env=os.environ | chosen,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        _until_ready(process, base, log)
        yield base
    finally:
        process.terminate()
        process.wait()


def _until_ready(process: subprocess.Popen[bytes], base: str, log: Path) -> None:
    deadline = time.monotonic() + START_UP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{base}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise ServiceFailed(f"not ready: {log.read_text(errors='replace')[-2000:]}")
