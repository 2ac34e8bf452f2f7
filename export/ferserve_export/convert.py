"""Keras → ONNX under the serving contract, with tf2onnx."""

import keras
import onnx
import tensorflow as tf
import tf2onnx
from ferserve.card import PowerScaling
from ferserve.fer2013.labels import FACE_SIDE

OPSET = 17


def convert(
    network: keras.Model,
    *,
    temperature: float = 1.0,
    mirror: bool = False,
    power_scaling: PowerScaling | None = None,
) -> onnx.ModelProto:
    """Turns a trained network into a graph from faces to probabilities.

    Args:
        network: Model from uint8 ``[N, 48, 48]`` to logits ``[N, 7]``, built in float32 on the
            TensorFlow backend.
        temperature: The logits are divided by it (Guo et al. 2017).
        mirror: Average the probabilities of each face and its mirror image; doubles the work.
        power_scaling: Done to the probabilities, or to their average.

    Returns:
        An ONNX model with the input ``faces``, uint8 ``[N, 48, 48]``, and the output
        ``probabilities``, float32 ``[N, 7]``.
    """

    def serve(faces: tf.Tensor) -> tf.Tensor:
        rows = serving_probabilities(network, faces, temperature, mirror, power_scaling)
        return tf.identity(rows, name="probabilities")

    signature = tf.TensorSpec((None, FACE_SIDE, FACE_SIDE), tf.uint8, name="faces")
    # tf2onnx's from_keras does not know Keras 3; a function with an unknown batch size works.
    model, _ = tf2onnx.convert.from_function(
        tf.function(serve, input_signature=[signature]), input_signature=[signature], opset=OPSET
    )
    _name_interface(model)
    onnx.checker.check_model(model)
    return model


def serving_probabilities(
    network: keras.Model,
    faces: tf.Tensor,
    temperature: float,
    mirror: bool,
    power_scaling: PowerScaling | None,
) -> tf.Tensor:
    """Computes in TensorFlow what the exported graph computes.

    Args:
        network: As for :func:`convert`.
        faces: uint8 ``[N, 48, 48]``.
        temperature: As for :func:`convert`.
        mirror: As for :func:`convert`.
        power_scaling: As for :func:`convert`.

    Returns:
        float32 ``[N, 7]``.
    """
    rows = _averaged_probabilities(network, faces, temperature, mirror)
    return power_scaled(rows, power_scaling) if power_scaling else rows


def power_scaled(probabilities: tf.Tensor, scaling: PowerScaling) -> tf.Tensor:
    """As :func:`ferserve_export.calibrate.apply_power_scaling`, in TensorFlow and in float32.

    Args:
        probabilities: float32 ``[N, 7]``.
        scaling: Scale and exponent.

    Returns:
        float32 ``[N, 7]``.
    """
    surprise = -tf.math.log(tf.minimum(probabilities, 1.0))
    return tf.nn.softmax(-scaling.scale * surprise**scaling.exponent)


def _averaged_probabilities(
    network: keras.Model, faces: tf.Tensor, temperature: float, mirror: bool
) -> tf.Tensor:
    if not mirror:
        return tf.nn.softmax(network(faces, training=False) / temperature)
    # One pass over a batch of twice the size: the weights stand in the graph once.
    both = tf.concat([faces, faces[:, :, ::-1]], axis=0)
    probabilities = tf.nn.softmax(network(both, training=False) / temperature)
    return tf.reduce_mean(tf.reshape(probabilities, (2, -1, probabilities.shape[-1])), axis=0)


def _name_interface(model: onnx.ModelProto) -> None:
    """Gives input and output the contract's names, and their first axis the name N."""
    graph = model.graph
    renamed = {graph.input[0].name: "faces", graph.output[0].name: "probabilities"}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = renamed[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
