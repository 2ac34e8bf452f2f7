# ruff: noqa: T201 - a script that talks to the person who runs it
"""ferserve beside its peers and the bare runtime, on the same processors with the same ONNX file.

Starts the services one after another and drives each with the same generator. Every peer is tuned
first: of the ways that its documentation recommends, the one with the most answers a second is
taken; ferserve runs as it comes. Cases:

- faces of 48x48 pixels to the Custom CNN: one client alone; saturation; half of the service's own
  saturation; and half of ferserve's, so that all have the same load;
- the same to ResNet50V2, saturation only;
- photos of 640x480 pixels with a face to be found: ferserve beside its own functions in a loop. The
  peers are frameworks and bring no detector; with ferserve's in them it would be measured twice.

    python bench/compare.py                          # the whole of it, up to an hour
    python bench/compare.py --peers litserve,ray --rounds 1 --seconds 3 --out /tmp/rehearsal

Needs Linux, and PyPI for the peers' environments at the first run. Writes
``bench/results/compare.json``; ends with status 1 where a goal was missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from load import REPOSITORY, RESULTS, described, photo_640, write_result
from peers.environments import environment as peer_programs
from peers.environments import versions
from peers.goals import goals
from peers.measuring import (
    WARM_UP_SECONDS,
    Bench,
    Target,
    bare_answer,
    bare_loop,
    measure_all,
    say,
    serving,
    tune,
)
from peers.registry import FERSERVE, OWN_PROGRAMS, PEERS, Peer
from peers.service_process import ServiceFailed

from service.loadtest.payloads import Payload
from service.settings import MODELS_DIR

CLIENTS = (8, 32)
"""Clients of a closed loop that are tried for saturation."""

SLOW_CLIENTS = (8,)


def main() -> None:
    """Measures and writes the results."""
    options = parse_arguments()
    machine = described()  # before processors are divided
    bench, peers = prepare(options)
    result: dict[str, Any] = {
        **machine,
        "method": {
            "service_processors": list(bench.cores),
            "generator_processors": sorted(os.sched_getaffinity(0)),
            "generator_processes": bench.processes,
            "seconds": bench.seconds,
            "warm_up_seconds": WARM_UP_SECONDS,
            "rounds": bench.rounds,
            "load_average_before": os.getloadavg()[0],
        },
        "services": {},
        "cases": {},
    }
    try:
        measure_cases(bench, peers, result)
    except BaseException:
        print(json.dumps(result), file=sys.stderr)  # hours of work, perhaps
        raise
    result["met"] = goals(result["cases"])
    write_result("compare", result, options.out)


def measure_cases(bench: Bench, peers: Sequence[Peer], result: dict[str, Any]) -> None:
    """Fills in the services and the cases."""
    cases = result["cases"]
    programs = install(peers, bench.cache, result["services"])
    cases["faces"] = {}
    compare_faces(bench, "custom_cnn", programs, CLIENTS, cases["faces"], with_latency=True)
    cases["resnet50v2"] = {}
    if (MODELS_DIR / "resnet50v2.onnx").is_file():
        slow = cases["resnet50v2"]
        compare_faces(bench, "resnet50v2", programs, SLOW_CLIENTS, slow, with_latency=False)
    else:
        cases["resnet50v2"]["skipped"] = "models/resnet50v2.onnx is not there"
    cases["photos"] = compare_photos(bench)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    known = [peer.name for peer in PEERS]
    parser.add_argument("--peers", default=",".join(known), help="comma-separated; '' for none")
    parser.add_argument("--rounds", type=int, default=3, help="the medians of so many are shown")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--cores", help="processors of the services, such as 0-1; all else")
    parser.add_argument("--generators", type=int, help="processes of the generator")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "build" / "peers")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of compare.json")
    options = parser.parse_args()
    options.peers = [name for name in options.peers.split(",") if name]
    if unknown := set(options.peers) - set(known):
        parser.error(f"no such peers: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def prepare(options: argparse.Namespace) -> tuple[Bench, list[Peer]]:
    """Divides the processors: those that the services leave are the generator's, else all."""
    usable = sorted(os.sched_getaffinity(0))
    cores = tuple(parse_cores(options.cores)) if options.cores else tuple(usable)
    if others := set(usable) - set(cores):
        os.sched_setaffinity(0, others)
    bench = Bench(
        cores,
        options.generators or max(1, len(others or cores) // 2),
        options.seconds,
        options.rounds,
        options.cache.resolve(),
    )
    return bench, [peer for peer in PEERS if peer.name in options.peers]


def parse_cores(text: str) -> Iterator[int]:
    """Reads ``0-2,5``."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def install(
    peers: Sequence[Peer], cache: Path, services: dict[str, Any]
) -> list[tuple[Peer, Path]]:
    """Returns each service with its programs; those that cannot be installed are left out."""
    found = []
    for peer in (FERSERVE, *peers):
        services[peer.name] = {"title": peer.title}
        try:
            programs = OWN_PROGRAMS if peer is FERSERVE else peer_programs(peer.name, cache)
        except subprocess.CalledProcessError as error:
            services[peer.name]["left_out"] = f"it cannot be installed: {error}"
            continue
        services[peer.name]["versions"] = versions(programs, peer.packages)
        found.append((peer, programs))
    return found


def compare_faces(
    bench: Bench,
    model_name: str,
    services: Sequence[tuple[Peer, Path]],
    clients: Sequence[int],
    case: dict[str, Any],
    *,
    with_latency: bool,
) -> None:
    """Measures all services, and the bare loop, with pre-cropped faces; fills in the case."""
    model = MODELS_DIR / f"{model_name}.onnx"
    expected = bare_answer(model)
    case |= {"bare": [], "tuning": {}, "runs": {}}
    for number in range(bench.rounds):
        case["bare"].append(bare_loop(bench, model))
        say(f"{model_name}, round {number + 1}: bare", case["bare"][-1][0])
        for peer, programs in services:
            try:
                if not number:
                    case["tuning"][peer.name] = tune(
                        bench, model, peer, programs, clients, expected
                    )
                    case["runs"][peer.name] = []
                best = case["tuning"].get(peer.name)
                if not best:
                    continue
                variant = peer.variants(len(bench.cores))[best["index"]]
                rate = None
                if peer is not FERSERVE:
                    ours = case["runs"][FERSERVE.name][-1]
                    rate = ours["saturation"]["requests_per_second"] / 2
                with serving(bench, model, peer, programs, variant, expected) as target:
                    measured = measure_all(bench, target, best["clients"], rate, with_latency)
            except (ServiceFailed, httpx.TransportError) as error:
                if peer is FERSERVE:
                    raise
                print(f"{peer.name}: {error}", file=sys.stderr)
                case.setdefault("failed", {})[peer.name] = str(error).splitlines()[0]
                continue
            case["runs"][peer.name].append(measured)
            say(f"{model_name}, round {number + 1}: {peer.name}", measured["saturation"])


def compare_photos(bench: Bench) -> dict[str, Any]:
    """Measures ferserve with photos beside its functions in a loop."""
    model = MODELS_DIR / "custom_cnn.onnx"
    case: dict[str, Any] = {"bare": [], "runs": {FERSERVE.name: []}}
    (variant,) = FERSERVE.variants(len(bench.cores))
    for number in range(bench.rounds):
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(photo_640())
            file.flush()
            case["bare"].append(bare_loop(bench, model, "--photo", file.name))
        with serving(bench, model, FERSERVE, OWN_PROGRAMS, variant, bare_answer(model)) as target:
            photos = Target(target.service, target.url, Payload(photo_640(), "image/jpeg"))
            found = measure_all(bench, photos, CLIENTS[0], None, with_latency=True)
        case["runs"][FERSERVE.name].append(found)
        say(f"photos, round {number + 1}: bare", case["bare"][-1][0])
        say(f"photos, round {number + 1}: ferserve", found["saturation"])
    return case


if __name__ == "__main__":
    main()
