"""The light network: an EfficientNetV2 for small grey faces, a fifteenth of the Custom CNN's work.

After Tan & Le 2021, "EfficientNetV2": fused blocks where the maps are large, then inverted
bottlenecks with depthwise convolutions and squeeze-and-excitation.
"""

from dataclasses import dataclass

import keras
from ferserve.fer2013.labels import FACE_SIDE
from keras import layers

from ferserve_training.networks.custom_cnn import FER2013_MEAN, FER2013_STD
from ferserve_training.networks.layers import (
    BatchNormalization,
    convolution,
    new_logits,
    upsampled_faces,
)


@dataclass(frozen=True)
class Block:
    """An inverted bottleneck.

    Attributes:
        expansion: Inner channels for each channel that comes in.
        channels: Those that go out.
        stride: Of the spatial convolution.
        fused: Whether one 3×3 convolution expands, in place of a 1×1 and a depthwise one.
    """

    expansion: int
    channels: int
    stride: int = 1
    fused: bool = False


STEM_CHANNELS, FEATURES = 16, 480

BLOCKS = (
    Block(4, 24, stride=2, fused=True),
    Block(4, 48, stride=2, fused=True),
    Block(2, 48, fused=True),
    Block(4, 96, stride=2),
    Block(4, 96),
    Block(4, 96),
    Block(6, 160, stride=2),
    Block(4, 160),
)
"""30 M multiply-adds a face, 60 M with its mirror image; at 64 pixels 53 M without."""


def build(side: int = FACE_SIDE, heads: int = 1, sharpen: bool = False) -> keras.Model:
    """Builds the network with random weights (0.9 M)."""
    faces, x = upsampled_faces(side, sharpen)
    x = layers.Rescaling(1 / FER2013_STD, -FER2013_MEAN / FER2013_STD)(x)
    x = keras.ops.silu(convolution(x, STEM_CHANNELS, 3, name="stem"))
    for number, block in enumerate(BLOCKS, start=1):
        x = _block(x, block, f"block{number}")
    x = keras.ops.silu(convolution(x, FEATURES, 1, name="features"))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    return keras.Model(faces, new_logits(x, heads), name="light")


def _block(x: keras.KerasTensor, block: Block, name: str) -> keras.KerasTensor:
    before, inner = x, x.shape[-1] * block.expansion
    if block.fused:
        x = keras.ops.silu(convolution(x, inner, 3, block.stride, name=f"{name}_expand"))
    else:
        x = keras.ops.silu(convolution(x, inner, 1, name=f"{name}_expand"))
        x = layers.DepthwiseConv2D(
            3, block.stride, padding="same", use_bias=False, name=f"{name}_depthwise"
        )(x)
        x = keras.ops.silu(BatchNormalization(name=f"{name}_depthwise_bn")(x))
        x = _squeeze_and_excitation(x, before.shape[-1] // 4, f"{name}_se")
    x = convolution(x, block.channels, 1, name=f"{name}_project")
    return x + before if x.shape == before.shape else x


def _squeeze_and_excitation(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    """Weighs channels by what the whole map holds (Hu et al. 2018)."""
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    weights = layers.Conv2D(channels, 1, activation="silu", name=f"{name}_reduce")(weights)
    weights = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_gate")(weights)
    return x * weights
