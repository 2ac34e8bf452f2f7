"""A float32 model in, the same in float16 out.

Only the *trunk* is converted, what lies between a network's first and its last convolution: nearly
all of the arithmetic. The preprocessing before it, and pooling, normalisation, logits, softmax,
averaging and calibration after it, stay in float32: they sum and square, where float16 loses most
or overflows. So do the nodes that unpack int8 weights, which ONNX Runtime computes once, at load.
"""

import copy

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel


def to_float16(content: bytes) -> onnx.ModelProto:
    """Converts an ONNX file; inputs and outputs keep their types."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    graph = model.graph
    inside = trunk(graph)
    outputs = copy.deepcopy(list(graph.output))
    _forget_types_outside(graph, inside)
    for number, node in enumerate(graph.node):  # the converter knows nodes by their names
        node.name = f"{number}"
    converted: onnx.ModelProto = convert_float_to_float16(
        model,
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=[node.name for node in graph.node if not inside & set(node.output)],
    )
    converted.graph.output.extend(outputs)
    # The converter appends its casts, and the same one for each node that a tensor leaves to.
    nodes = copy.deepcopy(list({node.output[0]: node for node in converted.graph.node}.values()))
    del converted.graph.node[:]
    converted.graph.node.extend(nodes)
    OnnxModel(converted).topological_sort()
    return converted


def trunk(graph: onnx.GraphProto) -> set[str]:
    """Returns the outputs of the nodes from the first convolutions to the last.

    The graph's nodes stand in order, as ONNX has it.
    """
    after: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" or any(name in after for name in node.input):
            after.update(node.output)
    before: set[str] = set()
    inside: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Conv" or any(name in before for name in node.output):
            before.update(node.input)
            inside.update(name for name in node.output if name in after)
    return inside


def _forget_types_outside(graph: onnx.GraphProto, inside: set[str]) -> None:
    """Leaves the converter only the types of tensors that enter, cross or leave the trunk.

    It casts every tensor whose type it knows, so also those between two nodes that stay in
    float32, which would round them all the same.
    """
    touched = set(inside)
    for node in graph.node:
        if inside & set(node.output):
            touched.update(node.input)
    kept = copy.deepcopy([info for info in graph.value_info if info.name in touched])
    del graph.value_info[:], graph.output[:]
    graph.value_info.extend(kept)
