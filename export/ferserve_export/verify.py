"""Checks that an exported graph computes what the trained network computes."""

import numpy as np
import onnx
import tensorflow as tf
from ferserve_training.evaluate import Predict, open_onnx

from ferserve_export import ExportError
from ferserve_export.convert import Serve

TOLERANCE = 1e-4
"""Largest difference of a probability that rounding may explain."""

BATCHES = (1, 7)
"""One face, and a batch that no kernel's block size divides."""

COMPRESSION_FACES = 1000
LARGEST_MOVE = 0.02
LARGEST_LOSS = 0.002
"""What compression may cost on 1,000 faces: in a probability, and in accuracy."""


def verify_parity(serve: Serve, model: onnx.ModelProto, faces: np.ndarray) -> float:
    """Compares Keras and ONNX Runtime at batch 1 and 7.

    The faces, uint8 ``[N, 48, 48]``, are real ones: noise hides errors that trained weights show.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        ExportError: It is not below :data:`TOLERANCE`.
    """
    predict = open_onnx(model.SerializeToString())
    largest = 0.0
    for batch in BATCHES:
        for start in range(0, len(faces) - batch + 1, batch):
            part = faces[start : start + batch]
            difference = np.abs(predict(part) - serve(tf.constant(part)).numpy())
            largest = float(np.maximum(largest, difference.max()))  # also of what is no number
    if not largest < TOLERANCE:
        raise ExportError(
            f"ONNX and Keras differ by {largest:.2g} in a probability; allowed: {TOLERANCE:g}"
        )
    return largest


def verify_compression(
    original: Predict, compressed: Predict, faces: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Compares a model with its compressed form on faces ``[N, 48, 48]`` with labels ``[N]``.

    Returns:
        The largest absolute difference of a probability, and the change of accuracy.

    Raises:
        ExportError: A probability moved by more than :data:`LARGEST_MOVE`, or the accuracy
            by more than :data:`LARGEST_LOSS`.
    """
    before, after = original(faces), compressed(faces)
    move = float(np.abs(after - before).max())
    hits = [int(np.sum(p.argmax(axis=1) == labels)) for p in (before, after)]
    change = (hits[1] - hits[0]) / len(labels)
    if not move <= LARGEST_MOVE or abs(change) > LARGEST_LOSS:
        raise ExportError(
            f"compression moves a probability by {move:.3f} and the accuracy by {change:+.2%}; "
            f"allowed: {LARGEST_MOVE} and {LARGEST_LOSS:.1%}"
        )
    return move, change
