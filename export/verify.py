"""Checks that an exported graph computes what the trained network computes."""

import keras
import numpy as np
import onnx
import tensorflow as tf

from export.convert import serving_probabilities
from training.evaluate import open_onnx

TOLERANCE = 1e-4
"""Largest difference of a probability that rounding may explain."""

BATCHES = (1, 7)
"""One face, and a batch that no kernel's block size divides."""


class ParityError(RuntimeError):
    """The ONNX graph answers otherwise than the Keras network."""


def verify_parity(
    network: keras.Model,
    model: onnx.ModelProto,
    faces: np.ndarray,
    *,
    temperature: float = 1.0,
    mirror: bool = False,
) -> float:
    """Compares Keras and ONNX Runtime on real faces at batch 1 and 7.

    Args:
        network: The trained network.
        model: Its export.
        faces: uint8 ``[N, 48, 48]``, real faces: noise hides errors that trained weights show.
        temperature: As exported.
        mirror: As exported.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        ParityError: It is not below :data:`TOLERANCE`.
    """
    predict = open_onnx(model.SerializeToString())
    largest = 0.0
    for batch in BATCHES:
        for start in range(0, len(faces) - batch + 1, batch):
            part = faces[start : start + batch]
            expected = serving_probabilities(network, tf.constant(part), temperature, mirror)
            largest = max(largest, float(np.abs(predict(part) - expected.numpy()).max()))
    if not largest < TOLERANCE:
        raise ParityError(
            f"ONNX and Keras differ by {largest:.2g} in a probability; allowed: {TOLERANCE:g}"
        )
    return largest
