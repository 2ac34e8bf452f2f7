"""ferserve beside its peers and the bare runtime, on the same processors.

Frameworks serve the same ONNX file and get faces. Packages with a detector and weights of their own
get whole photos.

Starts the services one after another and drives each with the same generator: to saturation, and
where latency counts also with one client, at half of the service's own saturation, and at half of
ferserve's, so that all have the same load. Rounds go through everything: a machine that slows down
does so for all.

    python bench/compare.py                                                    # about half an hour
    python bench/compare.py --services ferserve,ray --rounds 1 --seconds 3 --out /tmp/try

Needs Linux, and PyPI at the first run for the peers' environments. On more than two processors the
generator has those that the services leave.
"""

import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferserve.loadtest.generator import run
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Payload, Plan
from ferserve.loadtest.statistics import summarize
from ferserve.serving import DEFAULT_MODEL
from load import Service, ServiceFailed, command_line, face, free_port, photo, running, write_result
from peers.bare import bare_loop
from peers.common import Classifier, decode
from peers.registry import FERSERVE, INSTALLED, MODELS, PEERS, Peer

TOLERANCE = 1e-4
"""Largest difference of a probability from the bare runtime's."""

WARM_UP_SECONDS = 1.5
CPU_FACTOR, P99_FACTOR, PHOTOS_FACTOR, FACES_FACTOR = 1.25, 3.0, 3.0, 4.0


@dataclass(frozen=True)
class Case:
    """What is sent, to which model.

    This many ``clients`` saturate a service. ``bare_batch`` is the bare loop's fastest, None
    without one. Without ``with_latency`` saturation is all that is measured.
    """

    name: str
    model: str
    words: str
    payload: Payload
    clients: int
    bare_batch: int | None
    with_latency: bool

    @property
    def file(self) -> Path:
        return MODELS / f"{self.model}.onnx"

    def suits(self, peer: Peer) -> bool:
        """Frameworks bring no detector; with ferserve's it would be measured twice."""
        return not peer.brings_model if self.bare_batch else peer.finds_faces


CASES = (
    Case("faces", DEFAULT_MODEL, f"faces of 48×48, {DEFAULT_MODEL}", face(), 32, 16, True),
    Case("custom_cnn", "custom_cnn", "faces of 48×48, Custom CNN", face(), 32, 1, False),
    Case("photos", DEFAULT_MODEL, f"photos of 512×512, {DEFAULT_MODEL}", photo(), 8, None, True),
)

RATE, PROCESSOR = ("saturation", "requests_per_second"), ("saturation", "cpu_seconds_per_face")
ALONE, HALF_P99 = ("alone", "latency_ms", "p50"), ("half", "latency_ms", "p99")
"""Where figures stand in a run."""


def main() -> None:
    names = [peer.name for peer in (FERSERVE, *PEERS)]
    parser = command_line(__doc__, rounds=4, seconds=4.0, cores=2)
    parser.add_argument("--services", default=",".join(names), help="comma-separated")
    options = parser.parse_args()
    peers = [peer for peer in (FERSERVE, *PEERS) if peer.name in options.services.split(",")]
    usable = sorted(os.sched_getaffinity(0))
    cores, others = usable[: options.cores], usable[options.cores :]
    os.sched_setaffinity(0, others or usable)
    method = {
        "service_processors": cores,
        "generator_processors": others or usable,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "load_average_before": os.getloadavg()[0],
    }
    results: dict[str, Any] = {
        case.name: {"words": case.words, "bare": [], "runs": {}, "failed": {}} for case in CASES
    }
    services = {peer: peer.install() for peer in peers}
    for number in range(1, options.rounds + 1):
        for case in CASES:
            print(f"round {number}: {case.words}", flush=True)
            measure_round(case, services, cores, options.seconds, results[case.name])
    about: dict[str, dict[str, Any]] = {
        peer.name: {"title": peer.title, "versions": peer.versions()} for peer in peers
    }
    for peer in (INSTALLED, *peers):
        if peer.brings_model and peer.name in about:
            peer.install()
            about[peer.name]["installed_mb"] = peer.installed_mb()
    result = {"method": method, "services": about, "cases": results, "met": goals(results)}
    write_result("compare", result, options.out)


def measure_round(
    case: Case,
    services: Mapping[Peer, Path],
    cores: Sequence[int],
    seconds: float,
    found: dict[str, Any],
) -> None:
    """Measures everything of a case once; what fails is noted and costs the others nothing.

    ``services``, ferserve first, are given with the folders of their programs; ``found`` is filled.
    """
    if case.bare_batch:
        found["bare"].append(bare_loop(case.file, cores, case.bare_batch, seconds))
    rate = None
    for peer, programs in services.items():
        if not case.suits(peer):
            continue
        try:
            measured = measure_peer(case, peer, programs, cores, seconds, rate)
        except Exception as error:
            print(f"{peer.name}: {error}", file=sys.stderr, flush=True)
            why = (str(error) or type(error).__name__).splitlines()[0]
            found["failed"].setdefault(peer.name, []).append(why)
            continue
        found["runs"].setdefault(peer.name, []).append(measured)
        most = measured["saturation"]["requests_per_second"]
        print(f"  {peer.name}: {most:.1f}/s", flush=True)
        if peer is FERSERVE:
            rate = most / 2


def measure_peer(
    case: Case, peer: Peer, programs: Path, cores: Sequence[int], seconds: float, rate: float | None
) -> dict[str, Any]:
    """Starts a service, checks its answer, and measures it once.

    At ``rate``, a load that others have too, it is not measured where that saturates it, because
    ever more requests would wait.

    Raises:
        ServiceFailed: It does not start, answers wrong, or answers nothing.
    """
    port = free_port()
    variables = peer.variables(case.file, port, len(cores))
    command = peer.command_line(programs, port)
    with running(command, port, peer.ready, variables, cores) as service:
        check(service, peer, case.file)
        url, sent = service.url + peer.path, (peer.body(case.payload),)

        def under(load: OpenLoop | ClosedLoop) -> dict[str, Any]:
            return measure(service, Plan(url, load, sent, seconds, WARM_UP_SECONDS))

        saturation = under(ClosedLoop(case.clients))
        most = saturation["requests_per_second"]
        if not most:
            raise ServiceFailed(f"answered nothing: {saturation['errors']}")
        if not case.with_latency:
            return {"saturation": saturation}
        return {
            "saturation": saturation,
            "alone": under(ClosedLoop(1)),
            "half": under(OpenLoop(most / 2)),
            "same_rate": under(OpenLoop(rate)) if rate and rate < most else None,
        }


def check(service: Service, peer: Peer, model: Path) -> None:
    """Raises ServiceFailed unless a service answers as the bare runtime, or alone as happy."""
    sent = peer.body(photo() if peer.brings_model else face())
    headers = {"Content-Type": sent.content_type}
    answer = service.client.post(peer.path, content=sent.data, headers=headers)
    if answer.status_code != 200:
        raise ServiceFailed(f"answers {answer.status_code}: {answer.text[:500]}")
    found = peer.read(answer.json())
    if peer.brings_model:
        if max(found, key=found.__getitem__) != "happy":
            raise ServiceFailed(f"answers {found}")
        return
    (expected,) = Classifier(model)([decode(face().data)])
    if off := [name for name in expected if abs(found[name] - expected[name]) > TOLERANCE]:
        raise ServiceFailed(f"answers otherwise than the bare runtime: {', '.join(off)}")


def measure(service: Service, plan: Plan) -> dict[str, Any]:
    """Drives a service once; processor time is that of all of its processes."""
    before = service.cpu_seconds()
    measurement = run(plan)
    used = service.cpu_seconds() - before
    # Of all requests, the warm-up's among them, as the processor time is.
    answered = int(measurement.answered.sum())
    summary = summarize(measurement)
    return {
        "requests_per_second": summary.rate,
        "latency_ms": summary.latency_ms,
        # Less than none: a process ended and took its share along.
        "cpu_seconds_per_face": used / answered if answered and used > 0 else None,
        "resident_mb": service.resident_mb(),
        "errors": summary.errors,
        "faults": summary.faults,
    }


def median(runs: list[dict[str, Any]], *path: str) -> float | None:
    """Returns the median over rounds of the figure at a path; None where there is none."""
    found = []
    for value in runs:
        for name in path:
            value = value.get(name) if value else None
        if value is not None:
            found.append(value)
    return statistics.median(found) if found else None


def goals(cases: dict[str, Any]) -> dict[str, bool]:
    """Says of each goal whether it was met; one that lacks a figure was not."""
    runs = [
        loads for case in cases.values() for rounds in case["runs"].values() for loads in rounds
    ]
    measured = [one for loads in runs for one in loads.values() if one]
    met = {
        "nothing failed, no errors": bool(measured)
        and not any(case["failed"] for case in cases.values())
        and not any(one["errors"] for one in measured),
        "every measurement valid": not any(one["faults"] for one in measured),
    }

    def figure(case: str, service: str, *path: str) -> float:
        return median(runs_of(case).get(service, []), *path) or math.nan  # a nan meets no goal

    def runs_of(case: str) -> dict[str, list[dict[str, Any]]]:
        return cases[case]["runs"] if case in cases else {}

    photos, faces = runs_of("photos"), runs_of("faces")
    rate = figure("photos", "ferserve", *RATE)
    if packages := photos.keys() & {peer.name for peer in PEERS if peer.brings_model}:
        most = max(figure("photos", name, *RATE) for name in packages)
        met[f"{PHOTOS_FACTOR:g} x the photos of every package"] = rate >= PHOTOS_FACTOR * most
    rate, alone = figure("faces", "ferserve", *RATE), figure("faces", "ferserve", *ALONE)
    if "ferserve" in runs_of("custom_cnn"):
        heavy = figure("custom_cnn", "ferserve", *RATE)
        met[f"{FACES_FACTOR:g} x the faces of the Custom CNN"] = rate >= FACES_FACTOR * heavy
    if "ferserve" not in faces:
        return met
    peers = faces.keys() - {"ferserve"}
    rates = [figure("faces", name, *RATE) for name in peers]
    p99s = [
        p99
        for name in peers
        for load in ("half", "same_rate")
        if (p99 := figure("faces", name, load, "latency_ms", "p99")) > 0  # no nan
    ]
    cpu, p99 = figure("faces", "ferserve", *PROCESSOR), figure("faces", "ferserve", *HALF_P99)
    bare_cpu = median(cases["faces"]["bare"], "cpu_seconds_per_face") or math.nan
    return met | {
        f"processor time a face at most {CPU_FACTOR} x the bare runtime's": cpu
        <= CPU_FACTOR * bare_cpu,
        "more requests a second than every peer": rate > max(rates, default=0.0),
        f"half load: p99 at most {P99_FACTOR:g} x the p50 of a lone request": p99
        <= P99_FACTOR * alone,
        "half or same load: no peer has a lower p99": p99 <= min(p99s, default=math.inf),
    }


if __name__ == "__main__":
    main()
