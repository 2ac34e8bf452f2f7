"""Faces a second of a training step, by network, precision and Keras backend.

    python bench/training.py
    python bench/training.py --networks light --backends torch --steps 5 --out /tmp/try

Each combination runs in a process of its own, with the recipe's batch, augmentation and optimizer,
on faces of noise. The limit beside it is what the rate of a matrix product would allow: a step
takes three times the multiply-adds of a forward pass. A backend or precision that is not there, or
that makes no step in time, is named as such.
"""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from load import REPOSITORY, command_line, write_result

NETWORKS = {
    "light": "default",
    "custom_cnn": "default",
    "vgg16": "continue",
    "resnet50v2": "continue",
}
"""Recipes by network: those for a processor, at the side of the released file."""

BACKENDS = ("tensorflow", "torch", "jax")
PRECISIONS = ("float32", "mixed_bfloat16")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def main() -> None:
    parser = command_line(__doc__, steps=20, limit=300.0)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    options = parser.parse_args()
    peak = matrix_product_gflops()
    rows = [
        {"network": network, "precision": precision, "backend": backend}
        | in_a_process(network, precision, backend, options.steps, options.limit)
        for network in options.networks
        for precision in options.precisions
        for backend in options.backends
    ]
    for row in rows:
        if "faces_per_second" in row:
            row["limit"] = 1e9 * peak / (2 * 3 * row["multiply_adds"])
    known = Path("/proc/cpuinfo").read_text().split()
    flags = [flag for flag in FLAGS if flag in known]
    result = {"flags": flags, "matrix_product_gflops": round(peak, 1), "rows": rows}
    write_result("training", result, options.out)


def in_a_process(
    network: str, precision: str, backend: str, steps: int, limit: float
) -> dict[str, Any]:
    """Measures one combination, or says why it could not be measured."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # is ended, whatever it does
        measured = pool.apply_async(measure, (network, precision, steps))
        try:
            return measured.get(limit)
        except multiprocessing.TimeoutError:
            return {"reason": f"no result in {limit:.0f} s"}
        except Exception as error:
            return {"reason": f"{type(error).__name__}: {error}"[:200]}


def measure(name: str, precision: str, steps: int) -> dict[str, float]:
    """Times training steps in this process, after one that is not counted."""
    import keras
    import onnx
    from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
    from ferserve.garbage import keep_freed_blocks
    from ferserve.models import read_card
    from ferserve_training.model import TrainingModel
    from ferserve_training.multiply_adds import multiply_adds
    from ferserve_training.networks import build_network
    from ferserve_training.recipes import find_recipe
    from ferserve_training.train import compile_model

    models = REPOSITORY / "models"
    keep_freed_blocks()  # as a training does
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
        "multiply_adds": multiply_adds(onnx.load(models / f"{name}.onnx"))
        / (1 + read_card(models, name).mirror_averaging),
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


if __name__ == "__main__":
    main()
