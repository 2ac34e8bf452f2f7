"""ResNet50V2 (He et al. 2016, "Identity Mappings") on upsampled grey faces."""

import keras

from ferserve_training.networks.layers import (
    BatchNormalization,
    ZeroBorder,
    new_logits,
    upsampled_faces,
)


def build(side: int = 224, heads: int = 1) -> keras.Model:
    """Builds the network with random weights (24 M); its layer ``backbone`` is ResNet50V2's."""
    faces, x = upsampled_faces(side)
    x = keras.ops.repeat(x / 127.5 - 1, 3, axis=-1)  # Keras' preprocessing "tf"
    x = keras.layers.GlobalAveragePooling2D(name="pool")(_backbone()(x))
    x = keras.layers.Dropout(0.4, name="dropout")(x)
    return keras.Model(faces, new_logits(x, heads), name="resnet50v2")


def _backbone() -> keras.Model:
    """The backbone of keras.applications with the same weights, two kinds of layers replaced."""
    published = keras.applications.ResNet50V2(
        weights=None, include_top=False, input_shape=(None, None, 3), name="backbone"
    )
    return keras.models.clone_model(published, clone_function=_replace)


def _replace(layer: keras.layers.Layer) -> keras.layers.Layer:
    if layer.name == "pool1_pad":
        return ZeroBorder(name=layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        return BatchNormalization.from_config(layer.get_config())
    return layer.__class__.from_config(layer.get_config())
