"""Weights to go on from: a finished run's, or those of a released ONNX file."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from ferserve_training import TrainingError

BATCH = 64

Layers = dict[str, list[np.ndarray]]


def load_start(network: keras.Model, path: Path, faces: np.ndarray) -> None:
    """Gives a new network the weights that a run goes on from.

    Weights stored as int8 come back as they are served. A batch normalisation that the export
    folded into the convolution in front of it stands between the two again: its statistics are
    those of ``faces``, its scale and offset such that the network answers as the file does, and
    training from there on sees normalised activations.

    Args:
        network: As the new run's recipe describes it.
        path: A finished run's ``best.weights.h5``, or a released ONNX file.
        faces: Training faces uint8 ``[N, 48, 48]``; some thousands say enough.

    Raises:
        TrainingError: The file holds another network, or none.
    """
    try:
        if path.suffix == ".h5":
            network.load_weights(path)
        else:
            graph = onnx.load_from_string(path.read_bytes()).graph
            _fill(network, _constants_by_layer(graph), faces)
    except DecodeError as error:
        raise TrainingError(f"{path}: not an ONNX file ({error})") from error
    except (KeyError, ValueError, IndexError, OSError) as error:
        raise TrainingError(f"{path}: not the weights of {network.name} ({error})") from error


def _constants_by_layer(graph: onnx.GraphProto) -> Layers:
    """The constants of each layer in the order in which the graph uses them.

    tf2onnx names nodes and constants after layers, ``resnet50v2_1/backbone_1/post_bn_1/…``, where
    the ``_1`` behind each name is Keras' mark of the call that was exported.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers: Layers = {}
    for node in graph.node:
        inputs = [constants[name] for name in node.input if name in constants]
        # The two nodes that turn int8 blocks back: see export/ferserve_export/compress.py.
        if node.op_type == "DequantizeLinear":
            whole, scale = inputs
            constants[node.output[0]] = whole.astype(np.float32) * scale[:, None]
        elif node.op_type == "Reshape" and len(inputs) == len(node.input):
            constants[node.output[0]] = inputs[0].reshape(inputs[1])
        else:
            named = [node.name, *(name for name in node.input if name in constants)]
            # Equal constants are stored once, so the first name with a layer in it decides.
            scopes = next((name.split("/")[:-1] for name in named if "/" in name), [])
            for scope in scopes:
                layer = layers.setdefault(scope.removesuffix("_1"), [])
                layer.extend(v for v in inputs if v.ndim and v.dtype == np.float32)
    return layers


def _fill(network: keras.Model, layers: Layers, faces: np.ndarray) -> None:
    """Sets all weights; where a normalisation was folded, by way of what the faces give."""
    folded_biases: list[np.ndarray] = []
    folded: list[keras.layers.Layer] = []
    for layer in network._flatten_layers(include_self=False):
        if not layer.weights or isinstance(layer, keras.Model):
            continue
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name not in layers:
            folded.append(layer)
            continue
        values = layers[layer.name]
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        if depthwise or isinstance(layer, keras.layers.Conv2D):
            axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
            values = [values[0].transpose(axes), *values[1:]]
            if not layer.use_bias:
                folded_biases.append(values.pop())
        shapes = [variable.shape for variable in layer.weights]
        if layer.name == "logits" and shapes[0][1] == 2 * values[0].shape[1]:
            # A released network has one head; another one starts as its copy.
            values = [np.concatenate([value, value], axis=-1) for value in values]
        if len(values) == len(shapes) - 1 and getattr(layer, "use_bias", False):
            values = [*values, np.zeros(shapes[-1])]  # the export leaves a bias of zeros out
        layer.set_weights(
            [value.reshape(shape) for value, shape in zip(values, shapes, strict=True)]
        )
    _unfold(network, dict(zip(folded, folded_biases, strict=True)), faces)


def _unfold(
    network: keras.Model, biases: dict[keras.layers.Layer, np.ndarray], faces: np.ndarray
) -> None:
    """Makes each normalisation add its convolution's bias, whatever the scale it normalises to."""
    moments: dict[keras.layers.Layer, list[np.ndarray]] = {layer: [] for layer in biases}

    def add_bias(layer: keras.layers.Layer) -> Any:
        def call(inputs: Any, **_: Any) -> Any:
            values = keras.ops.convert_to_numpy(inputs).astype(np.float64)
            axes = (0, 1, 2)
            moments[layer].append(np.stack([values.mean(axes), np.square(values).mean(axes)]))
            return keras.ops.add(inputs, biases[layer])

        return call

    batches = [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
    for layer in biases:
        layer.call = add_bias(layer)
    for batch in batches if biases else ():
        network(batch, training=False)
    for layer, bias in biases.items():
        del layer.call
        mean, square = np.average(moments[layer], axis=0, weights=[len(b) for b in batches])
        variance = np.maximum(square - mean**2, 0)
        layer.set_weights([np.sqrt(variance + layer.epsilon), bias + mean, mean, variance])
