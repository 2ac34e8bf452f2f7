"""The limit: ONNX Runtime in a loop a processor, with no service around it."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from peers.common import Classifier


def bare_loop(model: Path, cores: Sequence[int], batch: int, seconds: float) -> dict[str, float]:
    """Runs the loops in a process of their own, on these processors."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, os.sched_setaffinity, (0, cores)) as pool:
        return pool.submit(_measure, model, len(cores), batch, seconds).result()


def _measure(model: Path, loops: int, batch: int, seconds: float) -> dict[str, float]:
    session = Classifier(model).session  # whose runs have one thread each
    faces = np.random.default_rng(0).integers(0, 256, (batch, 48, 48), np.uint8)

    def loop(deadline: float) -> int:
        runs = 0
        while time.monotonic() < deadline:
            session.run(None, {"faces": faces})
            runs += 1
        return runs * batch

    with ThreadPoolExecutor(loops) as pool:
        list(pool.map(loop, [time.monotonic() + min(1.0, seconds)] * loops))
        started, used = time.monotonic(), time.process_time()
        rated = sum(pool.map(loop, [started + seconds] * loops))
        wall, cpu = time.monotonic() - started, time.process_time() - used
    return {"batch": batch, "faces_per_second": rated / wall, "cpu_seconds_per_face": cpu / rated}
