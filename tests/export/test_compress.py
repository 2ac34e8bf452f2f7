import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from ferserve_export.compress import compress
from ferserve_export.convert import convert, serving
from ferserve_training.networks import custom_cnn
from onnx import helper, numpy_helper
from synthetic_fer2013 import face


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i % 7, rng) for i in range(21)])


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    keras.utils.set_random_seed(0)
    return convert(serving(custom_cnn.build(widths=(16, 32, 128, 128))))


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the service does
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, inputs)[0]


def test_file_shrinks_to_about_a_quarter(model):
    assert compress(model).ByteSize() < 0.35 * model.ByteSize()


def test_probabilities_hardly_move(model, faces):
    assert np.abs(run(compress(model), faces=faces) - run(model, faces=faces)).max() < 0.02


def test_interface_and_metadata_stay(model):
    model.metadata_props.add(key="labels", value="[]")
    small = compress(model)
    assert small.graph.input == model.graph.input
    assert small.graph.output == model.graph.output
    assert small.metadata_props == model.metadata_props


def test_the_given_model_is_left_as_it_is(model):
    before = model.SerializeToString()
    compress(model)
    assert model.SerializeToString() == before


def product(weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", weights.shape[1]])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", weights.shape[0]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_small_channels_and_those_with_outliers_keep_their_precision():
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(64, 1024)) * np.logspace(-4, 2, 64)[:, None]).astype(np.float32)
    weights[:, 5] *= 50
    inputs = rng.normal(size=(5, 1024)).astype(np.float32)
    inputs[:, 5] = 0
    expected = inputs @ weights.T
    scale = np.abs(weights).max(axis=1, keepdims=True) / 127
    by_channel = inputs @ (np.rint(weights / scale) * scale).T
    errors = [
        (np.abs(rows - expected).max(axis=0) / np.abs(expected).max(axis=0)).mean()
        for rows in (run(compress(product(weights)), x=inputs), by_channel)
    ]
    assert errors[0] < errors[1] / 3


def test_small_tensors_are_not_touched():
    model = convert(serving(custom_cnn.build(widths=(16, 32, 128, 128))))
    before = {t.name for t in model.graph.initializer if len(t.dims) == 4 and t.dims[1] == 1}
    assert before  # the first convolution, of one channel
    assert before <= {tensor.name for tensor in compress(model).graph.initializer}
