"""Predictions that are made once for every face."""

import hashlib
from collections.abc import Callable

import numpy as np
from ferserve.fer2013.labels import EMOTIONS

Predict = Callable[[np.ndarray], np.ndarray]
"""Faces uint8 ``[N, 48, 48]`` to probabilities float32 ``[N, 7]``."""

BATCH = 16
"""Larger batches are no faster on a CPU; with 64 faces and their mirrors an export of VGG16 took
7 GB."""


class RememberedPredictions:
    """Answers a face that was seen before, pixel for pixel, without the model.

    A test image belongs to several splits.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._rows: dict[bytes, np.ndarray] = {}

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """Predicts faces uint8 ``[N, 48, 48]``, 16 at a time: float32 ``[N, 7]``."""
        keys = [hashlib.sha256(face.tobytes()).digest() for face in faces]
        unseen = list({key: i for i, key in enumerate(keys) if key not in self._rows}.items())
        for start in range(0, len(unseen), BATCH):
            part = unseen[start : start + BATCH]
            rows = self._predict(faces[[i for _, i in part]])
            self._rows.update(zip((key for key, _ in part), rows, strict=True))
        return np.array([self._rows[key] for key in keys], np.float32).reshape(-1, len(EMOTIONS))
