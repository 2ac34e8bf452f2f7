"""The Custom CNN: pairs of 3×3 convolutions on 48×48 grey pixels, trained from scratch."""

from collections.abc import Sequence

import keras
from ferserve.fer2013.labels import FACE_SIDE

from ferserve_training.networks.layers import convolution, new_logits

FER2013_MEAN, FER2013_STD = 129.47, 65.04
"""Mean and standard deviation of all pixels of FER2013's Training images, in grey levels."""


def build(widths: Sequence[int] = (64, 128, 256, 512), heads: int = 1) -> keras.Model:
    """Builds the network with random weights (4.7 M with the default widths).

    A stage of each width is two convolutions and a 2×2 max-pool.
    """
    faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8", name="faces")
    x = keras.ops.expand_dims(keras.ops.cast(faces, "float32"), -1)
    x = keras.layers.Rescaling(1 / FER2013_STD, -FER2013_MEAN / FER2013_STD)(x)
    for stage, width in enumerate(widths, start=1):
        x = convolution(x, width, 3, name=f"stage{stage}_1")
        x = keras.layers.ReLU()(x)
        x = convolution(x, width, 3, name=f"stage{stage}_2")
        # ReLU and max-pool commute; in this order the ReLU has a quarter of the work.
        x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.4)(x)
    return keras.Model(faces, new_logits(x, heads, "glorot_uniform"), name="custom_cnn")
