"""Faces a second of each model on the GPU, by batch size: as it comes, and padded.

    python bench/gpu.py models/*.onnx           # writes bench/results/gpu.json
    python bench/gpu.py --provider cpu --seconds 0.1 models/custom_cnn.onnx    # a rehearsal

Two threads run batches, so that the next is begun while one runs, as the service does. *Mixed*
takes every size at random. ``ferserve quantize MODEL --to float16`` makes a file to compare with.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from ferserve.models import INPUT, OUTPUT, Faces, Scores, padded, padded_sizes
from ferserve.sessions import CPU, Runtime, open_session
from onnxruntime import InferenceSession
from rich.console import Console
from rich.table import Table

RESULT = Path(__file__).parent / "results" / "gpu.json"
THREADS = 2
LARGEST = 32
SIZES = padded_sizes(LARGEST)

Run = Callable[[Faces], Scores]


def main() -> None:
    """Measures every model, prints a table and, on a GPU, writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--provider", choices=("auto", "cuda", "tensorrt", "cpu"), default="auto")
    parser.add_argument("--seconds", type=float, default=3, help="for each figure")
    options = parser.parse_args()
    rows = []
    for path in options.models:
        session, provider = open_session(
            path.read_bytes(), path.name, Runtime(provider=options.provider)
        )

        dynamic = partial(run_once, session)
        ways: dict[str, Run] = {"dynamic": dynamic, "padded": padded(dynamic, SIZES)}
        for way, run in ways.items():
            rates = {size: rate(run, [size], options.seconds) for size in SIZES}
            mixed = rate(run, range(1, LARGEST + 1), options.seconds)
            rows.append({"model": path.stem, "way": way, "faces_per_second": rates, "mixed": mixed})
    table = Table("model", "way", *map(str, SIZES), "mixed")
    for row in rows:
        figures = [*row["faces_per_second"].values(), row["mixed"]]
        table.add_row(row["model"], row["way"], *(f"{figure:.0f}" for figure in figures))
    Console().print(table)
    if provider == CPU:
        sys.exit("no GPU: nothing is written")
    RESULT.write_text(
        json.dumps({"device": device(), "provider": provider, "rows": rows}, indent=2)
    )


def run_once(session: InferenceSession, faces: Faces) -> Scores:
    """Runs a batch as it is."""
    (rows,) = session.run([OUTPUT], {INPUT: faces})
    scores: Scores = rows
    return scores


def rate(run: Run, sizes: Sequence[int], seconds: float) -> float:
    """Returns the faces a second of batches of these sizes, drawn at random."""
    random = np.random.default_rng(0)
    batches = [random.integers(0, 256, (size, 48, 48), np.uint8) for size in sizes]
    for batch in batches:  # a session plans every size once
        run(batch)
    end = time.perf_counter() + seconds

    def loop(seed: int) -> int:
        order, faces = np.random.default_rng(seed), 0
        while time.perf_counter() < end:
            batch = batches[order.integers(len(batches))]
            run(batch)
            faces += len(batch)
        return faces

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(loop, range(THREADS))) / seconds


def device() -> str:
    """Names the card and its driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


if __name__ == "__main__":
    main()
