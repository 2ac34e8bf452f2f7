# ruff: noqa: T201 - the process that started this one reads what it prints
"""Measures one model, in one precision, run in one way; in a process of its own.

A CUDA graph that could not be captured leaves CUDA unusable, and memory that ONNX Runtime has taken
stays taken: so ``bench/gpu.py`` starts this for each combination, with a JSON object as argument,
and reads a JSON object a line, as soon as each is known.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

# ONNX Runtime reads this when it is imported, and would else report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
from ferserve.bundle import ModelBundle, load_bundle
from ferserve.fer2013.labels import FACE_SIDE
from gpu_machine import nvidia
from numpy.typing import NDArray

MIXED = "mixed"
"""Batches of every size up to the largest, at random: what a service sees."""

Faces = NDArray[np.uint8]
Predict = Callable[[Faces], NDArray[np.float32]]


def main() -> None:
    """Does what the argument says."""
    task = json.loads(sys.argv[1])
    started = time.monotonic()
    bundle = load_bundle(Path(task["models_dir"]), task["model"], **task["options"])
    opened = time.monotonic()
    bundle.warm_up()
    warm = time.monotonic()
    say(
        kind="opened",
        provider=bundle.provider,
        open_seconds=opened - started,
        warm_up_seconds=warm - opened,
        device_memory_mb=device_memory(),
    )
    faces = np.load(task["faces"])
    if task["kind"] == "answers":
        answers(bundle, faces, Path(task["out"]), task["options"]["max_batch"])
    else:
        reference = np.load(task["reference"])[: len(faces)]
        difference = float(np.abs(bundle.predict(faces) - reference).max())
        say(kind="difference", largest=difference, faces=len(faces))
        speed(bundle, task)


def speed(bundle: ModelBundle, task: dict[str, Any]) -> None:
    """Measures every batch size with every number of callers."""
    for batch in task["batches"]:
        sizes = mixed_sizes(task["options"]["max_batch"]) if batch == MIXED else [batch]
        for callers in task["callers"]:
            measured = drive(bundle.predict, sizes, task["seconds"], callers)
            say(kind="cell", batch=batch, callers=callers, **measured)


def answers(bundle: ModelBundle, faces: Faces, out: Path, max_batch: int) -> None:
    """Writes the probabilities of all faces."""
    pieces = [faces[start : start + max_batch] for start in range(0, len(faces), max_batch)]
    np.save(out, np.concatenate([bundle.predict(piece) for piece in pieces]))
    say(kind="answers", faces=len(faces))


def mixed_sizes(largest: int) -> list[int]:
    """Returns batch sizes from 1 to the largest, all equally likely; the same every time."""
    return np.random.default_rng(0).integers(1, largest + 1, 4096).tolist()


def drive(
    predict: Predict, sizes: Sequence[int], seconds: float, callers: int
) -> dict[str, float | int]:
    """Calls ``predict`` from several threads, each as fast as it can.

    Args:
        predict: Takes faces in the computer's memory and returns rows there.
        sizes: Of the batches, over and over.
        seconds: How long; every caller finishes the batch it has begun.
        callers: Threads.

    Returns:
        Faces a second, and percentiles of a call's duration.
    """
    noise = np.random.default_rng(1).integers(
        0, 256, (max(sizes), FACE_SIDE, FACE_SIDE), dtype=np.uint8
    )

    def call(number: int, deadline: float) -> tuple[int, list[float]]:
        faces, durations = 0, []
        start = number * len(sizes) // callers
        for size in cycle([*sizes[start:], *sizes[:start]]):
            began = time.perf_counter()
            if durations and began >= deadline:
                return faces, durations
            predict(noise[:size])
            durations.append(time.perf_counter() - began)
            faces += size
        raise AssertionError("a cycle does not end")

    began = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        parts = list(pool.map(call, range(callers), [began + seconds] * callers))
    wall = time.perf_counter() - began
    durations = np.concatenate([part[1] for part in parts])
    return {
        "faces_per_second": sum(part[0] for part in parts) / wall,
        "calls": len(durations),
        **{f"p{p}_ms": float(1000 * np.percentile(durations, p)) for p in (50, 99)},
    }


def device_memory() -> int | None:
    """Returns the memory taken on the first GPU, MiB; None where no driver answers."""
    used = nvidia("memory.used")
    return int(used) if used and used.isdecimal() else None


def say(**what: Any) -> None:
    """Prints a JSON object."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
