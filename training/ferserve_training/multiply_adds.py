"""How much arithmetic a model takes for a face."""

import math
from typing import Any

import onnx
from onnx import helper


def multiply_adds(model: onnx.ModelProto) -> int:
    """Counts the multiply-adds of convolutions and matrix products for a batch of one.

    Everything else is left out, so a limit that is computed from it is never too low. What a model
    does with mirror images is counted, as it is part of the graph.

    Args:
        model: With the batch as the first dimension of its one input.

    Raises:
        ValueError: A shape cannot be inferred.
    """
    single = onnx.ModelProto.FromString(model.SerializeToString())
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    # Shapes stated for any batch would be kept and not be computed for one.
    del single.graph.value_info[:]
    for output in single.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        dimensions = info.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[info.name] = tuple(dimension.dim_value for dimension in dimensions)
    constants = {tensor.name for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if all(name in constants for name in node.input):  # computed once, at load
            constants.update(node.output)
        elif node.op_type in TERMS:
            try:
                terms = TERMS[node.op_type](node, shapes)
                total += math.prod(shapes[node.output[0]]) * terms
            except KeyError as error:
                raise ValueError(f"{node.op_type} {node.output[0]}: no shape of {error}") from error
    return total


def _convolution(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """The kernel's shape is [M, C / group, k1, k2 …]."""
    return math.prod(shapes[node.input[1]][1:])


def _product(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """The last axis of the left matrix, which a Gemm may transpose."""
    transposed = any(helper.get_attribute_value(a) for a in node.attribute if a.name == "transA")
    return shapes[node.input[0]][0 if transposed else -1]


TERMS = {"Conv": _convolution, "MatMul": _product, "Gemm": _product}
"""By operator: how many products are added up for each value of the output."""
