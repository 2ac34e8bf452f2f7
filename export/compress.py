"""Weights-only int8 storage: a quarter of the bytes, the same arithmetic."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

MIN_WEIGHTS = 4096
"""Smaller tensors stay float32: together they weigh next to nothing."""

OUTPUT_AXIS = {"Conv": 0, "MatMul": 1, "Gemm": 1}
"""Axis of the output channels of an operator's second input; of ``Gemm`` unless ``transB``."""

LARGEST = 127
"""Symmetric int8: -127..127, so that zero stays zero."""


def compress(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores the weights of convolutions and matrix products as int8, one scale a channel.

    A ``DequantizeLinear`` in front of each turns them back to float32; ONNX Runtime folds it into
    a constant when the session is made with ``session.disable_quant_qdq=1``.

    Args:
        model: With float32 weights; it is left as it is.

    Returns:
        A new model with the same inputs, outputs and metadata.
    """
    compressed = onnx.ModelProto()
    compressed.CopyFrom(model)
    graph = compressed.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    restored: dict[str, str] = {}
    dequantizers = []
    for node in graph.node:
        if node.op_type not in OUTPUT_AXIS or node.input[1] not in weights:
            continue
        name = node.input[1]
        if name not in restored:
            tensor = weights[name]
            if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < MIN_WEIGHTS:
                continue
            restored[name] = f"{name}_restored"
            dequantizers.append(_store_int8(graph, tensor, _output_axis(node), restored[name]))
        node.input[1] = restored[name]
    _drop_unread(graph, restored)
    nodes = [*dequantizers, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(compressed)
    return compressed


def _output_axis(node: onnx.NodeProto) -> int:
    transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
    return 0 if transposed else OUTPUT_AXIS[node.op_type]


def _store_int8(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int, output: str
) -> onnx.NodeProto:
    values = numpy_helper.to_array(tensor)
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(axis=others), np.finfo(np.float32).tiny) / LARGEST
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    whole = np.rint(values / scale.reshape(shape)).astype(np.int8)
    stored, scales = f"{tensor.name}_int8", f"{tensor.name}_scale"
    graph.initializer.append(numpy_helper.from_array(whole, stored))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), scales))
    return helper.make_node("DequantizeLinear", [stored, scales], [output], axis=axis)


def _drop_unread(graph: onnx.GraphProto, replaced: dict[str, str]) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name not in replaced or t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
