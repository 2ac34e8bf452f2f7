# ruff: noqa: T201 - a script that talks to the person who runs it
"""The service under several settings side by side: saturation, a lone client, half load.

Starts them one after another, in several rounds, on the same processors and with the same generator
as ``compare.py``. Half load is half of the first way's saturation in that round, for all.

    python bench/side_by_side.py
    python bench/side_by_side.py "now" "before: PYTHONPATH=../other-checkout" --out /tmp/try

A way is a name and, behind a colon, environment variables; without any, one worker a processor and
one worker with all of them. Writes ``bench/results/side_by_side.json``.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferserve.settings import installed_models
from load import REPOSITORY, RESULTS, described
from peers.goals import median
from peers.measuring import Bench, bare_answer, measure_all, serving
from peers.registry import FERSERVE, OWN_PROGRAMS, Variant
from performance_compare import number

MODELS = {"custom_cnn": 32, "resnet50v2": 16}
"""Models, and clients of the closed loop that saturates them."""

LOADS = ("saturation", "alone", "same_rate")


def main() -> None:
    """Measures and writes the results."""
    options = parse_arguments()
    cores = tuple(sorted(os.sched_getaffinity(0)))
    ways = options.ways or default_ways(len(cores))
    bench = Bench(cores, max(1, len(cores) // 2), options.seconds, REPOSITORY / "build" / "peers")
    result: dict[str, Any] = {
        **described(),
        "method": {"rounds": options.rounds, "seconds": options.seconds},
        "models": {},
    }
    for model in options.models:
        found: dict[str, list[Any]] = {way.name: [] for way in ways}
        result["models"][model] = found
        for _ in range(options.rounds):
            measure_round(bench, model, ways, found)
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "side_by_side.json").write_text(json.dumps(result, indent=2) + "\n")
        for name, runs in found.items():
            print(f"{model}, {name}: {summary(runs)}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("ways", nargs="*", type=way_of, help="NAME or 'NAME: VARIABLE=VALUE …'")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of side_by_side.json")
    return parser.parse_args()


def default_ways(cores: int) -> list[Variant]:
    """As it comes, and one run at a time with a thread for each processor."""
    wide = {"FERSERVE_INFERENCE_WORKERS": 1, "FERSERVE_INTRA_OP_THREADS": cores}
    return [Variant("as it comes"), Variant(f"1 worker, {cores} threads", wide)]


def way_of(text: str) -> Variant:
    """Reads a name and environment variables."""
    name, _, variables = text.partition(":")
    settings = dict(variable.split("=", 1) for variable in variables.split())
    if "PYTHONPATH" in settings:
        settings["PYTHONPATH"] = str(Path(settings["PYTHONPATH"]).resolve())
    return Variant(name.strip(), settings)


def measure_round(
    bench: Bench, model: str, ways: Sequence[Variant], found: dict[str, list[Any]]
) -> None:
    """Measures each way once; adds what came of it to ``found``."""
    file = installed_models() / f"{model}.onnx"
    expected = bare_answer(file)
    rate = None
    for way in ways:
        with serving(bench, file, FERSERVE, OWN_PROGRAMS, way, expected) as target:
            measured = measure_all(bench, target, MODELS[model], rate, with_latency=True)
        if rate is None:
            rate = measured["saturation"]["requests_per_second"] / 2
            measured["same_rate"] = measured["half"]
        found[way.name].append(measured)
        print(f"  {model}, {way.name}: {summary([measured])}", flush=True)


def summary(runs: list[dict[str, Any]]) -> str:
    """The medians in a line."""
    return "; ".join(
        f"{load}: {number(median(runs, load, 'requests_per_second'))}/s, "
        f"{number(median(runs, load, 'cpu_seconds_per_face'), 2, 1000)} ms of processor time, "
        f"p50 {number(median(runs, load, 'latency_ms', 'p50'))}, "
        f"p99 {number(median(runs, load, 'latency_ms', 'p99'))} ms"
        for load in LOADS
    )


if __name__ == "__main__":
    main()
