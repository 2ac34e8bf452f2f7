"""Trains a tiny model on one and on two virtual CPU devices; prints what came out as JSON.

Run as a process of its own, with the backend in KERAS_BACKEND: devices are made at the start.
"""

import json

import keras
import numpy as np
from ferserve_training.callbacks import AveragedWeights
from ferserve_training.devices import count_devices, data_parallel
from ferserve_training.errors import TrainingError
from ferserve_training.schedule import CosineSchedule, Stages
from tiny_training import tiny_data, tiny_model, tiny_recipe


def make_devices() -> None:
    """TensorFlow's are made here; JAX reads XLA_FLAGS."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)


def replicas(variable: keras.Variable) -> int:
    if keras.config.backend() == "jax":
        return len(variable.value.sharding.device_set)
    return len(getattr(variable.value, "values", [None]))


def train(devices: int, path: str) -> dict[str, object]:
    recipe, data = tiny_recipe(learning_rate=1e-2, clip_norm=0.0), tiny_data(8)
    with data_parallel(devices):
        model, schedule = tiny_model(recipe), CosineSchedule(recipe, total_steps=4)
        averaged = AveragedWeights(model.network, path, data[0][0], 8, holdout=data)
        history = model.fit(
            *data,
            batch_size=8,
            epochs=4,
            callbacks=[schedule, Stages(recipe, schedule), averaged],
            verbose=0,
        ).history
    return {
        "loss": history["loss"],
        "val_loss": history["val_loss"],
        "kernel": np.asarray(model.network.get_layer("logits").kernel).tolist(),
        "replicas": replicas(model.trainable_variables[0]),
    }


def refusals() -> list[str]:
    messages = []
    for wanted, batch_size in (("3", 9), ("none", 8), ("2", 7)):
        try:
            count_devices(wanted, batch_size)
        except TrainingError as error:
            messages.append(str(error))
    return messages


if __name__ == "__main__":
    import sys
    from pathlib import Path

    make_devices()
    folder = Path(sys.argv[1])
    report = {
        "all": count_devices("all", 8),
        "refusals": refusals(),
        "one": train(1, folder / "one.weights.h5"),
        "two": train(2, folder / "two.weights.h5"),
    }
    sys.stdout.write(json.dumps(report) + "\n")
