"""The layers that the networks share: some of Keras' in another form, and the last one."""

from typing import Any

import keras
import numpy as np
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE

from ferserve_training.networks.sharpening import Sharpening


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation through TensorFlow's fused kernel; Keras' own elsewhere.

    Keras spells the normalisation out in element-wise operations and casts half-precision inputs
    to float32. The fused kernel reads bfloat16 as it is and keeps the statistics in float32: a
    training step of the Custom CNN takes about 0.6 of the time in float32 and 0.37 with
    ``mixed_bfloat16`` on a CPU. Variables, and so weight files, are those of Keras' layer.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Neither the inputs nor gamma and beta are cast: the kernel wants the last two in float32.
        super().__init__(autocast=keras.config.backend() != "tensorflow", **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises ``[N, H, W, C]`` over all but the last axis."""
        if keras.config.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        of_batch = bool(training and self.trainable)
        statistics = ([], []) if of_batch else (self.moving_mean, self.moving_variance)
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(statistics[0], tf.float32),
            variance=tf.convert_to_tensor(statistics[1], tf.float32),
            epsilon=self.epsilon,
            is_training=of_batch,
        )
        if of_batch:
            for moving, batch in (
                (self.moving_mean, outputs.batch_mean),
                (self.moving_variance, outputs.batch_variance),
            ):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs.y


def convolution(
    x: keras.KerasTensor, channels: int, size: int, stride: int = 1, *, name: str
) -> keras.KerasTensor:
    """Convolves ``[N, H, W, C]``, and normalises what comes out over the batch."""
    x = keras.layers.Conv2D(
        channels, size, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return BatchNormalization(name=f"{name}_bn")(x)


class Upsampling(keras.layers.Layer):
    """Bilinear upsampling of square grey faces as two constant matrices, ``W @ x @ W.T``.

    Equal to ``tf.image.resize`` within rounding, the same on every backend and in ONNX, where
    Keras' own ``Resizing`` from 48 to 224 cannot be converted.

    Attributes:
        side: Of the output.
        training_side: Of the output in training, for progressive resolution.
    """

    def __init__(self, side: int, **kwargs: Any) -> None:
        # float32: bfloat16 has 8 significant bits, too few for sums of grey levels.
        super().__init__(dtype="float32", **kwargs)
        self.side = self.training_side = side

    def call(self, faces: Any, training: bool | None = None) -> Any:
        """Turns float32 ``[N, S, S]`` into ``[N, side, side]``."""
        side = self.training_side if training else self.side
        if side == faces.shape[1]:
            return faces
        matrix = keras.ops.convert_to_tensor(bilinear_matrix(faces.shape[1], side))
        rows = keras.ops.matmul(matrix, faces)
        return keras.ops.matmul(rows, keras.ops.transpose(matrix))

    def load_own_variables(self, store: Any) -> None:
        """Reads nothing: earlier versions wrote the side, and weights fit every side."""


def bilinear_matrix(size: int, side: int) -> np.ndarray:
    """The matrix float32 ``[side, size]`` of bilinear interpolation with half-pixel centres."""
    position = ((np.arange(side) + 0.5) * size / side - 0.5).clip(0, size - 1)
    distance = np.abs(position[:, None] - np.arange(size))
    return (1 - distance).clip(0).astype(np.float32)


def upsampled_faces(
    side: int, sharpen: bool = False
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the input, uint8 ``[N, 48, 48]``, and it as float32 ``[N, side, side, 1]``."""
    faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8", name="faces")
    x = keras.ops.cast(faces, "float32")
    if sharpen:
        x = Sharpening(name="sharpening")(x)
    x = Upsampling(side, name="upsampling")(x)
    return faces, keras.ops.expand_dims(x, -1)


class ZeroBorder(keras.layers.Layer):
    """One pixel of zeros around a feature map, by concatenation.

    ONNX Runtime fuses a ``Pad`` with zeros into the max-pool behind it, which pads with −∞; where
    the input is negative, as in front of ResNet50V2's first pool, that changes the result.
    """

    def call(self, inputs: Any) -> Any:
        """Turns ``[N, H, W, C]`` into ``[N, H + 2, W + 2, C]``."""
        row = keras.ops.zeros_like(inputs[:, :1])
        tall = keras.ops.concatenate([row, inputs, row], axis=1)
        column = keras.ops.zeros_like(tall[:, :, :1])
        return keras.ops.concatenate([column, tall, column], axis=2)


def new_logits(
    features: keras.KerasTensor, heads: int = 1, kernel_initializer: str = "zeros"
) -> keras.KerasTensor:
    """Returns logits float32 ``[N, 7 · heads]`` of features ``[N, D]``.

    With a kernel of zeros all emotions are equally likely at first. A second head answers another
    question about the same face; see :func:`select_head`.
    """
    layer = keras.layers.Dense(
        len(EMOTIONS) * heads, kernel_initializer=kernel_initializer, dtype="float32", name="logits"
    )
    return layer(features)


def select_head(network: keras.Model, head: int) -> keras.Model:
    """Returns the network with one of its heads, from faces to logits float32 ``[N, 7]``."""
    both = network.get_layer("logits")
    chosen = keras.Model(network.input, new_logits(both.input), name=network.name)
    columns = slice(head * len(EMOTIONS), (head + 1) * len(EMOTIONS))
    chosen.get_layer("logits").set_weights([w[..., columns] for w in both.get_weights()])
    return chosen
