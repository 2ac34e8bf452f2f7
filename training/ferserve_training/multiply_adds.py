"""How much arithmetic a model takes for a face."""

import math

import onnx


def multiply_adds(model: onnx.ModelProto) -> int:
    """Counts the multiply-adds of convolutions and matrix products for a batch of one.

    Mirror images count, as they are part of the graph. The batch is the first dimension.

    Raises:
        ValueError: A shape cannot be inferred.
    """
    single = onnx.ModelProto.FromString(model.SerializeToString())
    # Shapes stated for any batch would be kept and not be computed for one.
    del single.graph.value_info[:]
    for tensor in (*single.graph.input, *single.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        shapes[info.name] = [size.dim_value for size in info.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":  # its kernel's shape is [M, C / group, k1, k2]
            terms = math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            terms = shapes[node.input[0]][-1]
        else:
            continue
        count = terms * math.prod(shapes[node.output[0]])
        if not count:
            raise ValueError(f"{node.op_type} {node.output[0]}: its shape cannot be inferred")
        total += count
    return total
