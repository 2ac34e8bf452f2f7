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

    python bench/compare.py                          # the whole of it, half an hour
    python bench/compare.py --minutes 60             # longer measurements, all rounds
    python bench/compare.py --peers litserve,ray --cases faces --rounds 1 --seconds 3 --out /tmp/try

Needs Linux, and PyPI for the peers' environments at the first run, whose time is not counted.
Writes ``bench/results/compare.json`` after every service of a round; ends with status 1 where a
goal was missed.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compare_cases import Faces, Photos
from compare_time import SECONDS, round_minutes, tuning_minutes
from ferserve.settings import installed_models
from load import REPOSITORY, RESULTS, described, write_result
from peers.environments import environment as peer_programs
from peers.environments import versions
from peers.goals import goals
from peers.measuring import SETTLE_SECONDS, WARM_UP_SECONDS, Bench, reason
from peers.registry import FERSERVE, OWN_PROGRAMS, PEERS, Peer

CASES = {"faces": (8, 32), "resnet50v2": (16,), "photos": (8,)}
"""Clients of a closed loop that are tried for saturation. 16 let two workers have batches of 8."""


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
            "warm_up_seconds": [WARM_UP_SECONDS, SETTLE_SECONDS],
            "rounds": 0,
            "load_average_before": os.getloadavg()[0],
        },
        "services": {},
        "cases": {},
        "met": {},
    }
    services = install(peers, bench.cache, result["services"])
    cases = prepare_cases(bench, services, options.cases, result["cases"])
    started = time.monotonic()
    for number in range(1, options.rounds + 1):
        begun = time.monotonic()
        result["method"]["rounds"] = number
        for case in cases:
            for _ in case.measure_round(number):
                result["met"] = goals(result["cases"])
                save(result, options.out)
        now = time.monotonic()
        print(f"round {number} took {(now - begun) / 60:.1f} minutes", flush=True)
        if now + (now - begun) * options.next_round > started + 60 * options.minutes:
            print("there is no time for another round")
            break
        options.next_round = 1.0
    result["method"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    write_result("compare", result, options.out)


def save(result: dict[str, Any], folder: Path) -> None:
    """Writes what there is; whoever reads meanwhile finds a whole file."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "compare.json.new"
    new.write_text(json.dumps(result, indent=2) + "\n")
    new.replace(folder / "compare.json")


def prepare_cases(
    bench: Bench,
    services: Sequence[tuple[Peer, Path]],
    names: Sequence[str],
    results: dict[str, Any],
) -> list[Faces | Photos]:
    """Returns the cases to measure; each fills in its part of the results."""
    cases: list[Faces | Photos] = []
    for name in names:
        model = installed_models() / (
            "resnet50v2.onnx" if name == "resnet50v2" else "custom_cnn.onnx"
        )
        results[name] = {}
        if not model.is_file():
            results[name]["skipped"] = f"models/{model.name} is not there"
        elif name == "photos":
            cases.append(Photos(bench, model, CASES[name][0], results[name]))
        else:
            cases.append(Faces(bench, model, services, CASES[name], name == "faces", results[name]))
    return cases


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    known = [peer.name for peer in PEERS]
    parser.add_argument("--peers", default=",".join(known), help="comma-separated; '' for none")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated")
    parser.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        help="how long all may take: measurements are as long as fit, and no round begins that "
        "would last longer",
    )
    parser.add_argument("--rounds", type=int, default=3, help="the medians of so many are shown")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--cores", help="processors of the services, such as 0-1; all else")
    parser.add_argument("--generators", type=int, help="processes of the generator")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "build" / "peers")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of compare.json")
    options = parser.parse_args()
    options.peers = chosen(parser, "peers", options.peers, known)
    options.cases = chosen(parser, "cases", options.cases, CASES)
    return options


def chosen(
    parser: argparse.ArgumentParser, what: str, text: str, known: Sequence[str] | dict[str, Any]
) -> list[str]:
    """Reads names with commas between them."""
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(known):
        parser.error(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def prepare(options: argparse.Namespace) -> tuple[Bench, list[Peer]]:
    """Divides the processors, and the time.

    The processors that the services leave are the generator's, else all.
    """
    usable = sorted(os.sched_getaffinity(0))
    cores = tuple(parse_cores(options.cores)) if options.cores else tuple(usable)
    if others := set(usable) - set(cores):
        os.sched_setaffinity(0, others)
    peers = [peer for peer in PEERS if peer.name in options.peers]
    seconds = divide_time(options, peers, len(cores))
    generators = options.generators or max(1, len(others or cores) // 2)
    return Bench(cores, generators, seconds, options.cache.resolve()), peers


def divide_time(options: argparse.Namespace, peers: Sequence[Peer], cores: int) -> float:
    """Returns the length of a measurement, and says how long all will take."""
    models = [name for name in options.cases if name != "photos"]
    clients = [CASES[name] for name in models]
    latencies = [name == "faces" for name in models]
    photos = "photos" in options.cases
    for seconds in [options.seconds] if options.seconds else SECONDS:
        tuning = tuning_minutes(peers, cores, clients, seconds)
        a_round = round_minutes(peers, latencies, photos, seconds)
        if tuning + options.rounds * a_round <= options.minutes:
            break
    rounds = min(options.rounds, max(1, int((options.minutes - tuning) / a_round)))
    options.next_round = a_round / (tuning + a_round)  # the share of the first round
    print(
        f"about {tuning + rounds * a_round:.0f} minutes: {tuning:.0f} to tune, then "
        f"{rounds} x {a_round:.1f} for rounds with measurements of {seconds:g} s",
        flush=True,
    )
    return float(seconds)


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
            services[peer.name]["versions"] = versions(programs, peer.packages)
        except Exception as error:
            services[peer.name]["left_out"] = f"it cannot be installed: {reason(error)}"
            continue
        found.append((peer, programs))
    return found


if __name__ == "__main__":
    main()
