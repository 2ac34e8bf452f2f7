# ruff: noqa: T201 - a script that talks to the person who runs it
"""Measures what the CPU path was chosen from, each choice beside what else there is.

    python bench/tuning.py                               # all of it, about 8 minutes
    python bench/tuning.py --only decode,batch --rounds 5

The ways of a choice are measured in turn, several rounds of them. Which one the service uses is
read from its own settings, sessions and constants. Writes ``bench/results/tuning.json`` as it goes.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# ONNX Runtime reads this when it is imported, and would else report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
import tuning_http
import tuning_images
import tuning_runtime
import tuning_sessions
from load import RESULTS, described
from performance_tuning import verdict
from tuning_measuring import Choice, compare

PACKAGES = ("onnxruntime", "numpy", "pillow", "fastapi", "pydantic", "uvicorn")

ROUNDS, SECONDS = 3, 1.0


@dataclass(frozen=True)
class Group:
    """Choices that belong together.

    Attributes:
        choices: Prepares them, one after the other.
        minutes: What they take on two processors with ``ROUNDS`` and ``SECONDS``.
    """

    choices: Callable[[], Iterator[Choice]]
    minutes: float


GROUPS = {
    "sessions": Group(tuning_sessions.sessions_and_threads, 0.9),
    "batch": Group(tuning_sessions.batches, 1.3),
    "spinning": Group(tuning_sessions.spinning, 0.3),
    "buffers": Group(tuning_runtime.buffers, 0.4),
    "optimiser": Group(tuning_runtime.optimiser, 0.8),
    "arithmetic": Group(tuning_runtime.arithmetic, 0.6),
    "arena": Group(tuning_runtime.arena, 0.6),
    "decode": Group(tuning_images.decoding, 0.8),
    "detect": Group(tuning_images.detection, 0.6),
    "http": Group(tuning_http.loops_and_parsers, 0.8),
    "answers": Group(tuning_http.answers, 0.3),
    "bodies": Group(tuning_http.bodies, 0.3),
}


def main() -> None:
    """Measures and writes the results."""
    options = parse_arguments()
    minutes = sum(GROUPS[name].minutes for name in options.only)
    minutes *= max(options.rounds * options.seconds / (ROUNDS * SECONDS), 0.3)
    print(f"about {max(minutes, 1):.0f} minutes on two processors that do nothing else", flush=True)
    onnxruntime.set_default_logger_severity(3)  # it warns of every option that is changed
    started = time.monotonic()
    result: dict[str, Any] = {
        **described(),
        "versions": {name: version(name) for name in PACKAGES},
        "method": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "load_average_before": os.getloadavg()[0],
        },
        "choices": [],
        "failed": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        try:
            for choice in GROUPS[name].choices():
                found = {"group": name, **compare(choice, options.rounds, options.seconds)}
                result["choices"].append(found)
                show(found)
        except Exception as error:  # what it was must not cost the other groups
            traceback.print_exc()
            result["failed"][name] = f"{type(error).__name__}: {error}"
        result["minutes"] = round((time.monotonic() - started) / 60, 1)
        (options.out / "tuning.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['minutes']} minutes")
    sys.exit(1 if result["failed"] else 0)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default=",".join(GROUPS), help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of tuning.json")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    if unknown := set(options.only) - set(GROUPS):
        parser.error(f"no such groups: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    return options


def show(found: dict[str, Any]) -> None:
    """Prints the figures of a choice."""
    print(f"\n{found['title']}")
    for name, way in found["ways"].items():
        cpu, rate = (sorted(way[key])[len(way[key]) // 2] for key in ("cpu_ms", "per_second"))
        mark = "*" if name == found["used"] else " "
        print(
            f" {mark} {name}: {cpu:.3f} ms of processor time, {rate:.1f}/s {verdict(found, name)}"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
