# ruff: noqa: T201 - a script that talks to the person who runs it
"""Faces a second of a training step, by network, precision and Keras backend.

    python bench/training.py                                    # writes bench/results/training.json
    python bench/training.py --networks light --backends torch --steps 5 --out /tmp/try.json

Each combination runs in a process of its own, with the recipe's batch, augmentation and optimizer,
on faces of noise. The limit beside it is what the rate of a matrix product would allow: a step
takes three times the multiply-adds of a forward pass. A backend or precision that is not there, or
that makes no step in time, is named as such.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RESULT = Path(__file__).parent / "results" / "training.json"
MODELS = Path(__file__).parents[1] / "models"
NETWORKS = {"light": "default", "custom_cnn": "default", "vgg16": "cpu", "resnet50v2": "cpu"}
"""Recipes by network: those for a processor."""

BACKENDS = ("tensorflow", "torch", "jax")
PRECISIONS = ("float32", "mixed_bfloat16")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def main() -> None:
    """Measures every combination, prints a table and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit-s", type=float, default=300, help="for each combination")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.steps)))
        return
    peak = matrix_product_gflops()
    rows = [
        {"network": network, "precision": precision, "backend": backend}
        | in_a_process(network, precision, backend, options)
        for network in options.networks
        for precision in options.precisions
        for backend in options.backends
    ]
    table = Table("network", "precision", "backend", "faces/s", "limit", "share")
    for row in rows:
        figures = [row.get("reason", ""), "", ""]
        if "faces_per_second" in row:
            row["limit"] = 1e9 * peak / (2 * 3 * row["multiply_adds"])
            rate, limit = row["faces_per_second"], row["limit"]
            figures = [f"{rate:.1f}", f"{limit:.0f}", f"{rate / limit:.0%}"]
        table.add_row(row["network"], row["precision"], row["backend"], *figures)
    Console().print(table)
    found = {"processor": processor(), "matrix_product_gflops": round(peak, 1), "rows": rows}
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(options.out)


def in_a_process(
    network: str, precision: str, backend: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Measures one combination, or says why it could not be measured."""
    command = [sys.executable, __file__, "--steps", str(options.steps)]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "--measure", network, precision],
            env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            timeout=options.limit_s,
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"no result in {options.limit_s:.0f} s"}
    if done.returncode:
        return {"reason": done.stderr.strip().rpartition("\n")[2][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def measure(name: str, precision: str, steps: int) -> dict[str, float]:
    """Times training steps in this process, after one that is not counted."""
    import keras
    import onnx
    from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
    from ferserve_training.model import TrainingModel
    from ferserve_training.multiply_adds import multiply_adds
    from ferserve_training.networks import build_network
    from ferserve_training.recipes import find_recipe
    from ferserve_training.train import compile_model

    recipe = replace(find_recipe(name, NETWORKS[name], precision=precision), votes=0.0)
    keras.config.set_dtype_policy(precision)
    network = build_network(recipe.network, recipe.side, heads=1)
    model = TrainingModel(network, recipe, seed=0)
    compile_model(model, recipe)
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (recipe.batch_size, FACE_SIDE, FACE_SIDE), np.uint8)
    labels = np.eye(len(EMOTIONS), dtype=np.float32)[random.integers(0, 7, recipe.batch_size)]

    def step() -> None:
        model.train_on_batch((faces, labels), labels)

    step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - started
    return {
        "faces_per_second": steps * recipe.batch_size / seconds,
        # The released file averages a face with its mirror image.
        "multiply_adds": multiply_adds(onnx.load(MODELS / f"{name}.onnx")) / 2,
    }


def matrix_product_gflops(side: int = 3000, rounds: int = 5) -> float:
    """Returns the best rate of a float32 matrix product on all processors, GFLOP/s."""
    left, right = (np.random.default_rng(n).random((side, side), np.float32) for n in (0, 1))
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2e-9 * side**3 / best


def processor() -> str:
    """Names the processor and what it computes in."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    flags = [flag for flag in FLAGS if flag in known["flags"].split()]
    return f"{known['model name']}, {os.cpu_count()} processors, {' '.join(flags)}"


if __name__ == "__main__":
    main()
