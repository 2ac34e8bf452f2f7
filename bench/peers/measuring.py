# ruff: noqa: T201 - helps a script that talks to the person who runs it
"""One service after another: its start, its tuning, and its figures under one load."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from load import REPOSITORY, face
from peers.common import Classifier, decode
from peers.registry import Peer, Variant, environment, free_port
from peers.service_process import Service, ServiceFailed, running

from fer2013.labels import EMOTIONS
from service.loadtest.payloads import Payload
from service.loadtest.plan import ClosedLoop, OpenLoop, Plan
from service.loadtest.processes import run
from service.loadtest.statistics import answered_mask, summarize

WARM_UP_SECONDS = 2.0
TOLERANCE = 1e-4
"""Largest difference of a probability from the bare runtime's."""


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        cores: Processors of the services.
        processes: Of the generator.
        seconds: Length of a measurement, of one while tuning, and of the bare loop's.
        rounds: How often everything is measured.
        cache: Folder of the peers' environments.
    """

    cores: tuple[int, ...]
    processes: int
    seconds: float
    rounds: int
    cache: Path

    @property
    def tuning_seconds(self) -> float:
        """Length of a measurement that only chooses."""
        return self.seconds / 2


@dataclass(frozen=True)
class Target:
    """A running service and how to ask it."""

    service: Service
    url: str
    payload: Payload


def tune(
    bench: Bench,
    model: Path,
    peer: Peer,
    programs: Path,
    clients: Sequence[int],
    expected: dict[str, float],
) -> dict[str, Any]:
    """Returns the variant and the number of clients with the most answers a second.

    Raises:
        ServiceFailed: No variant runs.
    """
    tried: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for index, variant in enumerate(peer.variants(len(bench.cores))):
        try:
            with serving(bench, model, peer, programs, variant, expected) as target:
                for number in clients:
                    found = measure(bench, target, ClosedLoop(number), bench.tuning_seconds)
                    about = {"index": index, "variant": variant.name, "clients": number}
                    tried.append(about | found)
                    say(f"  {peer.name}: {variant.name}, {number} clients", found)
        except (ServiceFailed, httpx.TransportError) as error:
            print(f"  {peer.name}: {variant.name}: {error}", file=sys.stderr)
            failed[variant.name] = str(error).splitlines()[0]
    if not tried:
        raise ServiceFailed("; ".join(failed.values()))
    best = max(tried, key=lambda one: one["requests_per_second"])
    chosen = {key: best[key] for key in ("index", "variant", "clients")}
    return {**chosen, "tried": tried, "failed": failed}


def measure_all(
    bench: Bench, target: Target, clients: int, rate: float | None, with_latency: bool
) -> dict[str, Any]:
    """Measures one service once: saturation and, where asked for, latency under less."""
    saturation = measure(bench, target, ClosedLoop(clients))
    if not with_latency:
        return {"saturation": saturation}
    half = saturation["requests_per_second"] / 2
    if not half:
        raise ServiceFailed(f"answered nothing: {saturation['errors']}")
    return {
        "alone": measure(bench, target, ClosedLoop(1)),
        "saturation": saturation,
        "half": measure(bench, target, OpenLoop(half)),
        "same_rate": measure(bench, target, OpenLoop(rate)) if rate else None,
    }


def measure(
    bench: Bench, target: Target, load: OpenLoop | ClosedLoop, seconds: float | None = None
) -> dict[str, Any]:
    """Drives a service once; processor time is that of all of its processes."""
    plan = Plan(
        target.url,
        load,
        (target.payload,),
        seconds=seconds or bench.seconds,
        warm_up=WARM_UP_SECONDS,
        processes=bench.processes,
        timeout=60,
    )
    before = target.service.cpu_seconds()
    measurement = run(plan)
    used = target.service.cpu_seconds() - before
    answered = int(answered_mask(measurement.samples).sum())
    summary = summarize(measurement)
    return {
        "load": summary.load,
        "requests_per_second": summary.rate,
        "latency_ms": summary.latency_ms,
        "cpu_seconds_per_face": used / answered if answered else None,
        "resident_mb": target.service.resident_bytes() / 1e6,
        "sent": summary.sent,
        "errors": summary.errors,
        "generator_lag_ms": summary.lag_ms,
        "generator_cpu": summary.generator_cpu,
        "faults": summary.faults,
    }


@contextmanager
def serving(
    bench: Bench,
    model: Path,
    peer: Peer,
    programs: Path,
    variant: Variant,
    expected: dict[str, float],
) -> Iterator[Target]:
    """Starts a service and checks that it answers as the bare runtime does."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = peer.command_line(programs, port, variant)
    settings = environment(model, port, len(bench.cores), variant)
    with running(command, base + peer.ready, settings, bench.cores) as service:
        target = Target(service, base + peer.path, variant.body(face()))
        answer = httpx.post(
            target.url,
            content=target.payload.data,
            headers={"Content-Type": target.payload.content_type},
            timeout=60,
        )
        if answer.status_code != 200:
            raise ServiceFailed(f"answers {answer.status_code}: {answer.text[:500]}")
        found = peer.read(answer.json())
        if off := [name for name in EMOTIONS if abs(found[name] - expected[name]) > TOLERANCE]:
            raise ServiceFailed(f"answers otherwise than the bare runtime: {', '.join(off)}")
        yield target


def bare_loop(bench: Bench, model: Path, *more: str) -> list[dict[str, Any]]:
    """Runs the bare loop at every setting; the fastest first."""
    script = REPOSITORY / "bench" / "peers" / "bare_runtime.py"
    options = ["--cores", str(len(bench.cores)), "--seconds", str(bench.tuning_seconds), *more]
    printed = subprocess.run(  # noqa: S603
        ["taskset", "-c", ",".join(map(str, bench.cores)), sys.executable, script, model, *options],  # noqa: S607
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: list[dict[str, Any]] = json.loads(printed)
    return found


def bare_answer(model: Path) -> dict[str, float]:
    """Returns what the bare runtime says of the face."""
    return Classifier(model)([decode(face())])[0]


def say(what: str, found: dict[str, Any]) -> None:
    """Prints a line of progress."""
    rate = found.get("requests_per_second", found.get("faces_per_second"))
    cpu = found["cpu_seconds_per_face"]
    print(f"{what}: {rate:.1f}/s, {1000 * (cpu or 0):.2f} ms of processor time a face", flush=True)
