"""VGG16 (Simonyan & Zisserman 2014) on upsampled grey faces."""

import keras

from ferserve_training.networks.layers import new_logits, upsampled_faces

IMAGENET_MEANS_BGR = (103.939, 116.779, 123.68)
"""What Keras' ``caffe`` preprocessing subtracts. The channels of a grey face are equal, so that
turning RGB into BGR changes nothing."""


def build(side: int = 224, heads: int = 1) -> keras.Model:
    """Builds the network with random weights (15 M); its layer ``backbone`` is VGG16's."""
    faces, x = upsampled_faces(side)
    x = keras.ops.repeat(x, 3, axis=-1)
    means = [-mean for mean in IMAGENET_MEANS_BGR]
    x = keras.layers.Rescaling(1.0, means, dtype="float32", name="preprocessing")(x)
    backbone = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(None, None, 3), name="backbone"
    )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(x))
    # Without batch normalisation inside, the published features go up to 100 on faces.
    x = keras.layers.LayerNormalization(dtype="float32", name="normalisation")(x)
    x = keras.layers.Dense(512, "relu", name="features")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(faces, new_logits(x, heads), name="vgg16")
