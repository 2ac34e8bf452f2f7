"""A model whose convolutions compute in int8, made of the float32 one at start-up.

The inputs and outputs of convolutions are rounded to 256 steps between the least and the greatest
value that Training faces gave them; the weights to 128 steps a channel. With 7 bits no sum of two
products overflows the 16 bits in which processors without VNNI add them up, so they are no less
accurate, only slower. The first convolution stays in float32: it has one to three channels and
would gain nothing. So does all that is around the convolutions; where another processor rounds that
otherwise, a value may fall to the next step, and a probability move by a hundredth.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ferserve.runtime.conversions import kept
from ferserve.runtime.errors import ModelError

VERSION = 1
"""Of what this module makes; part of the names of cached files."""

OPERATORS = ("Conv", "Relu")
"""A rectifier right behind a convolution becomes the lower end of its range."""

Ranges = Mapping[str, tuple[float, float]]
"""By tensor the least and the greatest value that a typical input gives it."""


def to_int8(content: bytes, name: str, ranges: Ranges, cache_dir: Path | None = None) -> bytes:
    """Converts an ONNX file; inputs and outputs keep their types.

    Args:
        content: The file.
        name: Of the file, for messages.
        ranges: Of the inputs and outputs of its convolutions.
        cache_dir: Folder that keeps the result; None keeps none.

    Raises:
        ModelError: What the conversion needs is not installed, or it fails.
    """
    source = content + json.dumps(ranges, sort_keys=True).encode()
    kind = f"int8-{VERSION}-{ort.__version__}"  # which has the quantizer
    return kept(cache_dir, kind, source, lambda: _convert(content, name, ranges))


def with_constants_folded(content: bytes) -> Any:
    """Reads an ONNX file and computes what no input changes, such as weights stored as int8.

    Convolutions have to have plain weights to be converted. ONNX Runtime folds them at load, too,
    but then it names tensors as its version likes.

    Returns:
        An ``onnx.ModelProto``; its nodes have names.
    """
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    folded, left = [], []
    for number, node in enumerate(graph.node):
        node.name = f"{number}"  # the quantizer knows nodes by their names
        if constants.issuperset(filter(None, node.input)):
            constants.update(node.output)
            folded.append(node)
        else:
            left.append(node)
    read = {name for node in left for name in node.input}
    wanted = [name for node in folded for name in node.output if name in read]
    values = _compute(model, folded, wanted)
    plain = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(left)
    graph.initializer.extend([*plain, *map(onnx.numpy_helper.from_array, values, wanted)])
    return model


def _compute(model: Any, nodes: list[Any], outputs: list[str]) -> list[NDArray[Any]]:
    """Computes some outputs of nodes of a model that read nothing but its constants."""
    import onnx

    if not outputs:
        return []
    read = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "constants",
        [],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    session = ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    values: list[NDArray[Any]] = session.run(None, {})
    return values


def _convert(content: bytes, name: str, ranges: Ranges) -> bytes:
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import add_infer_metadata
    except ImportError as error:
        raise ModelError(
            f"precision=int8 needs {error.name}, which is not installed; pip install onnx"
        ) from error
    try:
        model = onnx.shape_inference.infer_shapes(with_constants_folded(content))
        metadata = copy.deepcopy(list(model.metadata_props))
        add_infer_metadata(model)  # without it the quantizer infers shapes itself, through a file
        first = next(node.name for node in model.graph.node if node.op_type == "Conv")
        known = {tensor: tuple(map(np.float32, pair)) for tensor, pair in ranges.items()}
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, known),
            nodes_to_quantize=[],
            nodes_to_exclude=[first],
            op_types_to_quantize=list(OPERATORS),
            extra_options={},
        )
        quantizer.quantize_model()
        converted = quantizer.model.model
        del converted.metadata_props[:]
        converted.metadata_props.extend(metadata)
        result: bytes = converted.SerializeToString()
    except Exception as error:  # the quantizer asserts and indexes; no class tells its failures
        raise ModelError(f"{name}: cannot be converted to int8: {error!r}") from error
    return result
