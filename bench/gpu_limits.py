"""The arithmetic limit: how many operations a face takes, and how many a card does a second."""

import math
from typing import Any

import onnx
from onnx import helper

PEAKS = {
    "NVIDIA H100 80GB HBM3": {"float32": 67e12, "tf32": 494.7e12, "float16": 989.4e12},
    "NVIDIA H200": {"float32": 67e12, "tf32": 494.7e12, "float16": 989.4e12},
    "NVIDIA A100-SXM4-40GB": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
    "NVIDIA A100-SXM4-80GB": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
    "NVIDIA A100-PCIE-40GB": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
    "NVIDIA A100 80GB PCIe": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
}
"""Floating-point operations a second by the name that the driver gives a card, from NVIDIA's data
sheets of the H100 (SXM), H200 (SXM) and A100 Tensor Core GPUs: float32 on CUDA cores, TF32 and
float16 on tensor cores without sparsity, a fused multiply-add counted as two."""


def peak(card: str | None, precision: str) -> float | None:
    """Returns a card's operations a second; None where it is not in the table."""
    return PEAKS.get(card or "", {}).get(precision)


def operations_per_face(model: onnx.ModelProto) -> int:
    """Counts the operations of convolutions and matrix products for a batch of one.

    Two for each multiplication with its addition; everything else is left out, so a limit that
    is computed from it is never too low. What a model does with mirror images is counted, as it is
    part of the graph.

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
        elif node.op_type in COUNTERS:
            try:
                total += COUNTERS[node.op_type](node, shapes)
            except KeyError as error:
                raise ValueError(f"{node.op_type} {node.output[0]}: no shape of {error}") from error
    return total


def _convolution(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """Every output value is a sum over the kernel, whose shape is [M, C / group, k1, k2 …]."""
    kernel = shapes[node.input[1]]
    return 2 * math.prod(shapes[node.output[0]]) * math.prod(kernel[1:])


def _product(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """Every output value is a sum over the last axis of the left matrix."""
    return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _general_product(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """As a product, of a left matrix that may be transposed."""
    transposed = any(helper.get_attribute_value(a) for a in node.attribute if a.name == "transA")
    return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


COUNTERS = {"Conv": _convolution, "MatMul": _product, "Gemm": _general_product}
