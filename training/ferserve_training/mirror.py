"""A served graph without the mirror image that it averages each face with."""

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from ferserve_training.errors import TrainingError


def without_mirror(model: bytes) -> bytes:
    """Leaves the mirror image out of an exported graph; all else stays, and half of the work.

    ``ferserve_export.convert`` puts it in as ``Concat`` of the faces and their mirror images in
    front of the network, and ``Reshape`` to ``[2, N, 7]`` and ``ReduceMean`` behind its softmax.
    What comes after that, such as power scaling, takes the softmax as it is.

    Args:
        model: An ONNX file, from ``faces`` uint8 ``[N, 48, 48]`` to ``probabilities`` ``[N, 7]``.

    Returns:
        The file with the same inputs, outputs and metadata.

    Raises:
        TrainingError: No ONNX file, or one that does not average each face with its mirror image.
    """
    try:
        cut = onnx.load_from_string(model)
    except DecodeError as error:
        raise TrainingError(f"not an ONNX file ({error})") from error
    graph = cut.graph
    produced = {name: node for node in graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    both = [node for node in graph.node if _joins_faces_and_mirror_images(node)]
    means = [
        node
        for node in graph.node
        if node.op_type == "ReduceMean"
        and _halves_the_batch(produced.get(node.input[0]), constants)
    ]
    if len(both) != 1 or len(means) != 1:
        raise TrainingError("its graph averages no face with its mirror image")
    mirrored, halves = produced[both[0].input[1]], produced[means[0].input[0]]
    for node, source in ((both[0], "faces"), (means[0], halves.input[0])):
        node.CopyFrom(helper.make_node("Identity", [source], node.output, node.name))
    graph.node.remove(mirrored)
    graph.node.remove(halves)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    onnx.checker.check_model(cut)
    return cut.SerializeToString()


def _joins_faces_and_mirror_images(node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat" and node.input[0] == "faces" and len(node.input) == 2


def _halves_the_batch(node: onnx.NodeProto | None, constants: dict[str, np.ndarray]) -> bool:
    if node is None or node.op_type != "Reshape" or node.input[1] not in constants:
        return False
    return constants[node.input[1]].tolist()[:2] == [2, -1]
