from pathlib import Path

import numpy as np
import onnx
import pytest
from ferserve_training.multiply_adds import multiply_adds
from onnx import TensorProto, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]


def test_operations_are_counted_by_shape():
    weights = {
        "kernel": np.zeros((8, 2, 3, 3), np.float32),  # two groups: each value sums 2 x 3 x 3
        "dense": np.zeros((8, 7), np.float32),
        "bias": np.zeros(7, np.float32),
    }
    nodes = [
        helper.make_node(
            "Conv", ["faces", "kernel"], ["features"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense", "bias"], ["logits"]),
        helper.make_node("MatMul", ["logits", "square"], ["probabilities"]),
    ]
    weights["square"] = np.zeros((7, 7), np.float32)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    convolution = (8 * 3 * 3) * (2 * 3 * 3)
    assert multiply_adds(model) == convolution + 8 * 7 + 7 * 7


def test_a_networks_count_is_that_of_its_paper():
    # VGG16's convolutions: 15.3e9 multiplications with additions at 224 pixels (Simonyan and
    # Zisserman, 2015, counted from their table 1); ours has 72 pixels, which halve to 4 in the last
    # stage, not to 4.5; and it sees the mirror image too.
    counted = multiply_adds(onnx.load(REPOSITORY / "models" / "vgg16.onnx"))
    assert counted == pytest.approx(2 * 15.35e9 * (72 / 224) ** 2, rel=0.02)
