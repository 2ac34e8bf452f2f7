"""Augmentation and mixing inside the training graph: uint8 faces in, uint8 faces out."""

import math
from typing import Any

import keras
from ferserve.fer2013.labels import FACE_SIDE
from keras import ops

from ferserve_training.recipes import Augmentation


def build_augmentation(settings: Augmentation, seed: int = 0) -> keras.Model:
    """Builds a model that changes uint8 faces ``[N, 48, 48]`` in training.

    Its output is rounded to whole grey levels, so that a network is trained on just what it is
    served.
    """
    # float32 throughout: bfloat16 has 8 significant bits, too few for 256 grey levels.
    faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8", name="faces")
    x = ops.expand_dims(ops.cast(faces, "float32"), -1)
    x = RandomAffine(settings, seed=seed, dtype="float32")(x)
    x = keras.layers.RandomBrightness(settings.brightness, seed=seed + 1, dtype="float32")(x)
    x = keras.layers.RandomContrast(settings.contrast, seed=seed + 2, dtype="float32")(x)
    x = keras.layers.RandomErasing(
        settings.erasing, fill_value=128.0, seed=seed + 3, dtype="float32"
    )(x)
    x = ops.cast(ops.round(ops.clip(ops.squeeze(x, -1), 0, 255)), "uint8")
    return keras.Model(faces, x, name="augmentation")


class RandomAffine(keras.layers.Layer):
    """Mirror, rotation, scale and shift in one resampling, which blurs less than one each."""

    def __init__(self, settings: Augmentation, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Transforms float32 ``[N, H, W, 1]``; returns it as it is outside training."""
        if not training:
            return images
        height, width = images.shape[1:3]
        return ops.image.affine_transform(
            images,
            self._transforms(ops.shape(images)[0], height, width),
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )

    def _transforms(self, count: Any, height: int, width: int) -> Any:
        """Returns ``[N, 8]``: for each output pixel (x, y) the place it is read from."""
        angle = self._uniform(count, self.settings.rotation * math.pi / 180)
        zoom = 1.0 + self._uniform(count, self.settings.scale)
        shift_x = self._uniform(count, self.settings.shift * width)
        shift_y = self._uniform(count, self.settings.shift * height)
        mirror = ops.sign(self._uniform(count, 1.0)) if self.settings.flip else 1.0
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        cos, sin = ops.cos(angle) * zoom, ops.sin(angle) * zoom
        a0, a1 = cos * mirror, -sin
        b0, b1 = sin * mirror, cos
        a2 = centre_x + shift_x - a0 * centre_x - a1 * centre_y
        b2 = centre_y + shift_y - b0 * centre_x - b1 * centre_y
        zero = ops.zeros_like(angle)
        return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)

    def _uniform(self, count: Any, limit: float) -> Any:
        return keras.random.uniform((count,), -limit, limit, seed=self.seed_generator)


class Mixup(keras.layers.Layer):
    """Mixes each face with the one at its place counted from the end of the batch.

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
        """Mixes uint8 faces ``[N, 48, 48]`` and their labels ``[N, L]`` in training."""
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
