"""Keras → ONNX under the serving contract, with tf2onnx."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import onnx
import tensorflow as tf
import tf2onnx
from ferserve.card import PowerScaling
from ferserve.fer2013.labels import FACE_SIDE

from ferserve_export.calibrate import power_scaled

OPSET = 17

Serve = Callable[[tf.Tensor], tf.Tensor]
"""Faces uint8 ``[N, 48, 48]`` to probabilities float32 ``[N, 7]``."""


def serving(
    network: keras.Model,
    *,
    temperature: float = 1.0,
    mirror: bool = False,
    power_scaling: PowerScaling | None = None,
) -> Serve:
    """Returns what a trained network is served as, in TensorFlow.

    Args:
        network: Model from uint8 ``[N, 48, 48]`` to logits ``[N, 7]``, built in float32 on the
            TensorFlow backend.
        temperature: The logits are divided by it (Guo et al. 2017).
        mirror: Average the probabilities of each face and its mirror image; doubles the work.
        power_scaling: Done to the probabilities, or to their average.
    """

    def serve(faces: tf.Tensor) -> tf.Tensor:
        # One pass over a batch of twice the size: the weights stand in the graph once.
        views = tf.concat([faces, faces[:, :, ::-1]], axis=0) if mirror else faces
        rows = tf.nn.softmax(network(views, training=False) / temperature)
        if mirror:
            rows = tf.reduce_mean(tf.reshape(rows, (2, -1, rows.shape[-1])), axis=0)
        return power_scaled(rows, power_scaling) if power_scaling else rows

    return serve


def convert(serve: Serve) -> onnx.ModelProto:
    """Turns what :func:`serving` returns into ONNX: ``faces`` in, ``probabilities`` out."""
    signature = [tf.TensorSpec((None, FACE_SIDE, FACE_SIDE), tf.uint8, name="faces")]
    # tf2onnx's from_keras does not know Keras 3; a function with an unknown batch size works.
    function = tf.function(lambda faces: {"probabilities": serve(faces)}, input_signature=signature)
    with _collecting_often():
        model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model)
    return model


@contextmanager
def _collecting_often() -> Iterator[None]:
    """Has garbage collected often, and only what was made since.

    tf2onnx copies the graph with its weights again and again: few objects, but large ones. At its
    usual pace the collector let them grow to 10 GB for ResNet50V2, in twice the time; now to 3 GB.
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(700, 2, 1)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
