"""The last layer of every network."""

import keras
from ferserve.fer2013.labels import EMOTIONS


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
