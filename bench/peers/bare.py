"""The limit: ONNX Runtime in a loop a processor, with no service around it."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from peers.common import Classifier

BENCH = Path(__file__).resolve().parents[1]


def bare_loop(model: Path, cores: Sequence[int], batch: int, seconds: float) -> dict[str, Any]:
    """Runs the loops in a process of their own, on these processors; returns as ``measure``."""
    pinned = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "peers.bare"]
    numbers = [str(number) for number in (len(cores), batch, seconds)]
    ended = subprocess.run(  # noqa: S603
        [*pinned, model, *numbers], cwd=BENCH, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def measure(model: Path, loops: int, batch: int, seconds: float) -> dict[str, Any]:
    """Runs the loops in this process, on one session whose runs have one thread each."""
    session = Classifier(model).session
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


if __name__ == "__main__":
    _, model, loops, batch, seconds = sys.argv
    print(json.dumps(measure(Path(model), int(loops), int(batch), float(seconds))))  # noqa: T201
