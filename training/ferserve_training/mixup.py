"""Mixup: every face blended with another of its batch, and the labels alike."""

from typing import Any

import keras
from keras import ops


class Mixup(keras.layers.Layer):
    """Mixes each face with the one that stands in its place from the batch's end.

    The shares are drawn for every face from Beta(alpha, alpha) (Zhang et al. 2018); the larger
    is the face's own, so that its own label stays the most probable.

    Attributes:
        active: Weight 0 or 1; with 0 faces pass through.
    """

    def __init__(self, alpha: float, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.alpha = alpha
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.active = self.add_weight((), initializer="ones", trainable=False, name="active")

    def call(self, faces: Any, labels: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Mixes in training, and passes through otherwise.

        Args:
            faces: uint8 ``[N, 48, 48]``.
            labels: One-hot float32 ``[N, 7]``.
            training: Whether to mix.

        Returns:
            Faces, rounded to uint8, and labels of the same shapes.
        """
        if not training or not self.alpha:
            return faces, labels
        shape = (ops.shape(faces)[0], 1, 1)
        drawn = keras.random.beta(
            shape, self.alpha, self.alpha, dtype="float32", seed=self.seed_generator
        )
        other = self.active * ops.minimum(drawn, 1 - drawn)
        values = ops.cast(faces, "float32")
        mixed = ops.round(values + other * (ops.flip(values, axis=0) - values))
        shares = other[:, :, 0]
        return ops.cast(mixed, "uint8"), labels + shares * (ops.flip(labels, axis=0) - labels)
