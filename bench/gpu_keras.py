"""Measures Keras with one network on the device that its backend has; in a process of its own.

The network is the one that was trained, with random weights, as speed does not depend on them, and
with what its ONNX file does around it: mirror images where the card says so, and the softmax. XLA
compiles it. Called and read by ``bench/gpu.py`` as ``bench/gpu_cells.py`` is.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from gpu_cells import drive, say

FACE_SIDE = 48


def main() -> None:
    """Does what the argument says."""
    task = json.loads(sys.argv[1])
    # Else JAX takes three quarters of the GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import keras

    device = device_of(keras.config.backend())
    if task["needs_gpu"] and device != "gpu":
        say(kind="skipped", reason=f"Keras' backend {keras.config.backend()} has no GPU")
        return
    set_precision(keras, task["precision"])
    model = whole_model(keras, json.loads(Path(task["card"]).read_text(encoding="utf-8")))
    model.compile(jit_compile=True)
    for batch in task["batches"]:
        began = time.monotonic()
        drive(model.predict_on_batch, [batch], 0, 1)
        measured = drive(model.predict_on_batch, [batch], task["seconds"], 1)
        say(
            kind="cell",
            backend=keras.config.backend(),
            version=keras.__version__,
            device=device,
            batch=batch,
            compile_seconds=time.monotonic() - began - task["seconds"],
            **measured,
        )


def device_of(backend: str) -> str:
    """Returns ``gpu`` or ``cpu``."""
    if backend == "tensorflow":
        import tensorflow

        return "gpu" if tensorflow.config.list_physical_devices("GPU") else "cpu"
    if backend == "jax":
        import jax

        return "gpu" if jax.default_backend() == "gpu" else "cpu"
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def set_precision(keras: Any, precision: str) -> None:
    """Has all be computed in ``float32``, ``tf32`` or ``float16``.

    Raises:
        SystemExit: The backend is another than TensorFlow or JAX, whose TF32 can be switched.
    """
    keras.mixed_precision.set_dtype_policy("mixed_float16" if precision == "float16" else "float32")
    if keras.config.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    elif keras.config.backend() == "jax":
        import jax

        jax.config.update(
            "jax_default_matmul_precision", "highest" if precision == "float32" else "default"
        )
    else:
        raise SystemExit("bench/gpu_keras.py knows Keras' backends tensorflow and jax")


def whole_model(keras: Any, card: dict[str, Any]) -> Any:
    """Builds what the ONNX file computes, from faces uint8 ``[N, 48, 48]`` to probabilities."""
    from ferserve_training.run_folder import build_network

    recipe = card["training"]["recipe"]
    network = build_network(recipe["network"], (recipe.get("sides") or [None])[-1])
    faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8")
    views = [faces, keras.ops.flip(faces, axis=2)] if card["mirror_averaging"] else [faces]
    logits = network(keras.ops.concatenate(views, axis=0))
    rows = keras.ops.softmax(keras.ops.cast(logits, "float32") / card["temperature"])
    mean = keras.ops.mean(keras.ops.reshape(rows, (len(views), -1, rows.shape[-1])), axis=0)
    if scaling := card.get("power_scaling"):
        surprise = -keras.ops.log(keras.ops.minimum(mean, 1.0))
        mean = keras.ops.softmax(-scaling["scale"] * surprise ** scaling["exponent"])
    return keras.Model(faces, mean)


if __name__ == "__main__":
    main()
