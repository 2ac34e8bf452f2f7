"""A float32 model in, the same in float16 out.

Only the *trunk* is converted, what lies between a network's first and its last convolution: nearly
all of the arithmetic. The preprocessing before it, and pooling, normalisation, logits, softmax,
averaging and calibration after it, stay in float32: they sum and square, where float16 loses most
or overflows. So do the nodes that unpack int8 weights. ONNX Runtime computes these once, at load,
and with them the casts of weights.
"""

import onnx
from onnx import TensorProto, helper


def to_float16(content: bytes) -> onnx.ModelProto:
    """Converts an ONNX file; inputs and outputs keep their types."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    graph = model.graph
    inside = trunk(graph)
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes = []
    cast: set[str] = set()
    for node in graph.node:
        floats = [name for name in node.input if types.get(name) == TensorProto.FLOAT]
        if not floats:  # as for zeros of a computed shape, which are float32 by themselves
            inside -= set(node.output)
        is_inside = not inside.isdisjoint(node.output)
        crossing = {name for name in floats if is_inside != (name in inside)}
        to = TensorProto.FLOAT16 if is_inside else TensorProto.FLOAT
        for name in sorted(crossing - cast):
            nodes.append(helper.make_node("Cast", [name], [f"{name}_cast"], to=to))
        cast |= crossing
        node.input[:] = [f"{name}_cast" if name in crossing else name for name in node.input]
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


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
