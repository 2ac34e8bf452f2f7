import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from synthetic_fer2013 import face

from export.compress import compress
from export.convert import convert
from training.networks import custom_cnn


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i % 7, rng) for i in range(21)])


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    keras.utils.set_random_seed(0)
    return convert(custom_cnn.build(widths=(16, 32, 64, 64)))


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


@pytest.mark.parametrize("transposed", [0, 1], ids=["as-is", "transB"])
def test_every_output_channel_has_a_scale_of_its_own(transposed: int):
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(96, 64)) * np.logspace(-4, 2, 64)).astype(np.float32)
    inputs = rng.normal(size=(5, 96)).astype(np.float32)
    stored = weights.T if transposed else weights
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)],
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 96])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 64])],
        [numpy_helper.from_array(np.ascontiguousarray(stored), "w")],
    )
    product = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    expected = inputs @ weights
    error = np.abs(run(compress(product), x=inputs) - expected).max(axis=0)
    # One scale for all would round the smallest channels to nothing: an error of 1.
    assert (error / np.abs(expected).max(axis=0)).max() < 0.06
