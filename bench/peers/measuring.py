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
from ferserve.fer2013.labels import EMOTIONS
from ferserve.loadtest.payloads import Payload
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan
from ferserve.loadtest.processes import run
from ferserve.loadtest.statistics import answered_mask, summarize
from load import REPOSITORY, face
from peers.common import Classifier, decode
from peers.registry import Peer, Variant, environment, free_port
from peers.service_process import Service, ServiceFailed, running

WARM_UP_SECONDS = 2.0
"""Of the first measurement after a start; the next ones only let the last one's requests end."""

SETTLE_SECONDS = 1.0

SAME_SPEED = 0.03
"""Of settings of the bare loop that are within so much of the fastest one's rate, the one with the
least processor time is its best."""

BARE_SETTING = ("loops", "threads_inside_a_run", "batch")

TIMEOUT_SECONDS = 30.0
"""Longest wait for an answer."""

TOLERANCE = 1e-4
"""Largest difference of a probability from the bare runtime's."""


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        cores: Processors of the services.
        processes: Of the generator.
        seconds: Length of a measurement.
        cache: Folder of the peers' environments.
    """

    cores: tuple[int, ...]
    processes: int
    seconds: float
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
                    found = measure(
                        bench, target, ClosedLoop(number), bench.tuning_seconds, WARM_UP_SECONDS
                    )
                    about = {"index": index, "variant": variant.name, "clients": number}
                    tried.append(about | found)
                    say(f"  {peer.name}: {variant.name}, {number} clients", found)
        except Exception as error:
            print(f"  {peer.name}: {variant.name}: {error}", file=sys.stderr)
            failed[variant.name] = reason(error)
    best = max(tried, key=lambda one: one["requests_per_second"], default=None)
    if not best or not best["requests_per_second"]:
        wrong = [f"{name}: {why}" for name, why in failed.items()]
        wrong += [f"{one['variant']}: answered nothing: {one['errors']}" for one in tried]
        raise ServiceFailed("; ".join(wrong))
    chosen = {key: best[key] for key in ("index", "variant", "clients")}
    return {**chosen, "tried": tried, "failed": failed}


def measure_all(
    bench: Bench, target: Target, clients: int, rate: float | None, with_latency: bool
) -> dict[str, Any]:
    """Measures one service once: saturation and, where asked for, latency under less.

    Args:
        bench: What all share.
        target: The service.
        clients: Of the closed loop that saturates it.
        rate: A load that others have, too, requests a second; left out where it saturates this
            service, because ever more requests would wait.
        with_latency: Whether saturation is not all.

    Raises:
        ServiceFailed: It answered nothing.
    """
    saturation = measure(bench, target, ClosedLoop(clients), warm_up=WARM_UP_SECONDS)
    most = saturation["requests_per_second"]
    if not most:
        raise ServiceFailed(f"answered nothing: {saturation['errors']}")
    if not with_latency:
        return {"saturation": saturation}
    return {
        "saturation": saturation,
        "alone": measure(bench, target, ClosedLoop(1)),
        "half": measure(bench, target, OpenLoop(most / 2)),
        "same_rate": measure(bench, target, OpenLoop(rate)) if rate and rate < most else None,
    }


def measure(
    bench: Bench,
    target: Target,
    load: OpenLoop | ClosedLoop,
    seconds: float | None = None,
    warm_up: float = SETTLE_SECONDS,
) -> dict[str, Any]:
    """Drives a service once; processor time is that of all of its processes.

    Raises:
        ServiceFailed: It ended meanwhile.
    """
    plan = Plan(
        target.url,
        load,
        (target.payload,),
        seconds=seconds or bench.seconds,
        warm_up=warm_up,
        processes=bench.processes,
        timeout=TIMEOUT_SECONDS,
    )
    before = target.service.cpu_seconds()
    measurement = run(plan)
    used = target.service.cpu_seconds() - before
    if not target.service.alive():
        raise ServiceFailed(f"ended under {load}")
    # Of all requests, the warm-up's among them, as the processor time is.
    answered = int(answered_mask(measurement.samples).sum())
    summary = summarize(measurement)
    return {
        "load": summary.load,
        "requests_per_second": summary.rate,
        "latency_ms": summary.latency_ms,
        # Less than none: a process ended and took its share along.
        "cpu_seconds_per_face": used / answered if answered and used > 0 else None,
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
            timeout=TIMEOUT_SECONDS,
        )
        if answer.status_code != 200:
            raise ServiceFailed(f"answers {answer.status_code}: {answer.text[:500]}")
        found = peer.read(answer.json())
        if off := [name for name in EMOTIONS if abs(found[name] - expected[name]) > TOLERANCE]:
            raise ServiceFailed(f"answers otherwise than the bare runtime: {', '.join(off)}")
        yield target


def tune_bare(bench: Bench, model: Path) -> dict[str, Any]:
    """Returns the setting of the bare loop that is its best, and what all of them gave."""
    tried = bare_loop(bench, model, seconds=bench.tuning_seconds / 2)
    most = max(one["faces_per_second"] for one in tried)
    fastest = [one for one in tried if one["faces_per_second"] >= (1 - SAME_SPEED) * most]
    best = min(fastest, key=lambda one: one["cpu_seconds_per_face"])
    return {**{key: best[key] for key in BARE_SETTING}, "tried": tried}


def measure_bare(bench: Bench, model: Path, tuned: dict[str, Any]) -> dict[str, Any]:
    """Runs the bare loop at its best setting."""
    setting = ",".join(str(tuned[key]) for key in BARE_SETTING)
    (found,) = bare_loop(bench, model, "--setting", setting)
    return found


def bare_loop(
    bench: Bench, model: Path, *more: str, seconds: float | None = None
) -> list[dict[str, Any]]:
    """Runs the bare loop on the services' processors."""
    script = REPOSITORY / "bench" / "peers" / "bare_runtime.py"
    length = str(seconds or bench.seconds)
    options = ["--cores", str(len(bench.cores)), "--seconds", length, *more]
    ended = subprocess.run(  # noqa: S603
        ["taskset", "-c", ",".join(map(str, bench.cores)), sys.executable, script, model, *options],  # noqa: S607
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise ServiceFailed(f"the bare loop failed: {ended.stderr[-2000:]}")
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def bare_answer(model: Path) -> dict[str, float]:
    """Returns what the bare runtime says of the face."""
    return Classifier(model)([decode(face())])[0]


def reason(error: Exception) -> str:
    """The first line of what went wrong."""
    return (str(error) or type(error).__name__).splitlines()[0]


def say(what: str, found: dict[str, Any]) -> None:
    """Prints a line of progress."""
    rate = found.get("requests_per_second", found.get("faces_per_second"))
    cpu = found["cpu_seconds_per_face"]
    print(f"{what}: {rate:.1f}/s, {1000 * (cpu or 0):.2f} ms of processor time a face", flush=True)
