"""float16 models made at start-up: close to the float32 ones, and float32 where it matters."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from ferserve.bundle import ModelError, load_bundle
from ferserve.runtime.float16 import to_float16, trunk
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).resolve().parents[2] / "models"

MOVED = 0.004
"""How far a probability may move. float16 keeps 11 bits: 0.0005 of a value that is near 1."""


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 48, 48), np.uint8)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The type of every tensor, inferred anew."""
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {info.name: info.type.tensor_type.elem_type for info in infos}


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet50v2"])
def test_a_float16_model_answers_nearly_alike(name, faces):
    plain = load_bundle(MODELS, name, provider="cpu").predict(faces)
    half = load_bundle(MODELS, name, provider="cpu", precision="float16").predict(faces)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, plain, atol=MOVED, rtol=0)
    np.testing.assert_allclose(half.sum(axis=1), 1, atol=1e-6)
    assert np.abs(half - plain).max() > 0  # or nothing was converted


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet50v2"])
def test_convolutions_are_float16_and_what_is_around_them_float32(name):
    content = (MODELS / f"{name}.onnx").read_bytes()
    converted = onnx.load_from_string(to_float16(content, name))
    types = types_of(converted)
    convolutions = [node for node in converted.graph.node if node.op_type == "Conv"]
    assert {types[node.output[0]] for node in convolutions} == {TensorProto.FLOAT16}
    whole = [n for n in converted.graph.node if n.op_type in ("Softmax", "MatMul", "ReduceMean")]
    assert {types[node.output[0]] for node in whole} == {TensorProto.FLOAT}
    assert types["faces"] == TensorProto.UINT8
    assert types["probabilities"] == TensorProto.FLOAT
    stored = onnx.load_from_string(content).metadata_props
    assert list(converted.metadata_props) == list(stored)


def test_nothing_outside_the_trunk_is_rounded():
    # Preprocessing and the head have to be as in float32, bit for bit: between their nodes there
    # must be no cast to float16 and back.
    kernel = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "kernel")
    third = numpy_helper.from_array(np.float32(1 / 3), "third")
    nodes = [
        helper.make_node("Cast", ["faces"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "third"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "third"], ["image"]),
        helper.make_node("Conv", ["image", "kernel"], ["one"]),
        helper.make_node("Relu", ["one"], ["positive"]),
        helper.make_node("Conv", ["positive", "kernel"], ["two"]),
        helper.make_node("Mul", ["two", "third"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 1, 2, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 1, 2, 2])],
        [kernel, third],
    )
    assert trunk(graph) == {"one", "positive", "two"}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    converted = onnx.load_from_string(to_float16(model.SerializeToString(), "tiny"))
    types = types_of(converted)
    halves = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert len(halves) == 4  # what enters, one, positive, two
    casts = [node for node in converted.graph.node if node.op_type == "Cast"]
    assert len(casts) == 3  # uint8 to float32, into the trunk, out of it


def test_a_converted_model_is_kept_where_there_is_a_folder(standin_models, tmp_path, faces):
    options = {"provider": "cpu", "precision": "float16", "cache_dir": tmp_path / "cache"}
    first = load_bundle(standin_models, "first", **options).predict(faces)
    (kept,) = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    again = load_bundle(standin_models, "first", **options).predict(faces)
    np.testing.assert_array_equal(again, first)
    assert kept.stat().st_mtime_ns == written
    load_bundle(standin_models, "second", **options)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_cache(standin_models, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    load_bundle(
        standin_models, "first", provider="cpu", precision="float16", cache_dir=blocked / "cache"
    )
    assert "not cached" in caplog.text


def test_without_onnx_the_error_says_what_to_install(standin_models, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="pip install onnx"):
        load_bundle(standin_models, "first", provider="cpu", precision="float16")


def test_a_file_that_cannot_be_converted_is_refused():
    with pytest.raises(ModelError, match=r"text\.onnx: cannot be converted to float16"):
        to_float16(b"hello", "text.onnx")
