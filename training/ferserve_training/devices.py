"""Data-parallel training on several devices, through Keras' own distribution."""

import contextlib
from contextlib import AbstractContextManager

import keras

from ferserve_training.errors import TrainingError


def count_devices(wanted: str | None, batch_size: int) -> int:
    """Resolves ``--devices``.

    Args:
        wanted: A number, ``all``, or None for one.
        batch_size: Faces that they share.

    Returns:
        How many devices to train on.

    Raises:
        TrainingError: There are not so many, or the batch cannot be shared.
    """
    if wanted is None:
        return 1
    available = len(_devices())
    count = available if wanted == "all" else int(wanted) if wanted.isdecimal() else 0
    if not 1 <= count <= available:
        raise TrainingError(f"--devices {wanted}: there are {available}; a number of them, or all")
    if count > 1 and keras.config.backend() not in ("jax", "tensorflow"):
        raise TrainingError("--devices needs the backend jax or tensorflow")
    if batch_size % count:
        raise TrainingError(f"{count} devices cannot share batches of {batch_size} evenly")
    return count


def data_parallel(count: int) -> AbstractContextManager[object]:
    """Returns a context in which models are built, and fitted, on that many devices.

    Each device has a copy of the weights and a share of every batch. On JAX the sums are those of
    one device; on TensorFlow each device has batch statistics of its own, and clips its own share
    of the gradients.
    """
    if count == 1:
        return contextlib.nullcontext()
    devices = _devices()[:count]
    if keras.config.backend() == "jax":
        return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False).scope()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices).scope()


def _devices() -> list[str]:
    """Names of the GPUs, or of the CPU's (virtual) devices where there is none."""
    if keras.config.backend() != "tensorflow":
        return keras.distribution.list_devices()
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]
