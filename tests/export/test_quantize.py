"""``ferserve quantize``: a model in int8 or float16 as a file and a card of its own."""

import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from ferserve.cli import app
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score, score_votes
from ferserve.models import load_model, read_card
from ferserve.sessions import Runtime
from ferserve_export.float16 import to_float16, trunk
from ferserve_export.int8 import to_int8, with_constants_folded
from ferserve_training.evaluate import open_model
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from synthetic_fer2013 import face, write_zip
from typer.testing import CliRunner, Result

MODELS = Path(__file__).resolve().parents[2] / "models"
ON_CPU = Runtime(provider="cpu")
FLOAT16_MOVED = 0.004
"""How far a probability may move. float16 keeps 11 bits: 0.0005 of a value that is near 1."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "fer2013.zip", train=4, test=3)


@pytest.fixture
def folder(tmp_path: Path, write_standin) -> Path:
    """A folder with a network of two convolutions and its card."""
    models = tmp_path / "models"
    models.mkdir()
    write_standin(models, "first", seed=1)
    model = onnx.load(models / "first.onnx")
    kernel = np.random.default_rng(3).normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(kernel, "second kernel"))
    (flatten,) = [node for node in model.graph.node if node.op_type == "Flatten"]
    flatten.input[0] = "deeper"
    second = helper.make_node("Conv", ["active", "second kernel"], ["deeper"], pads=[1, 1, 1, 1])
    model.graph.node.insert(list(model.graph.node).index(flatten), second)
    onnx.save(model, models / "first.onnx")
    card = read_card(models, "first")
    card.sha256 = hashlib.sha256((models / "first.onnx").read_bytes()).hexdigest()
    fields = dict.fromkeys(("all", "public", "private", "leak_free"), card.metrics["private"])
    votes, _ = score_votes(np.eye(3, 7, dtype=np.float32), np.eye(3, 10, dtype=np.int64))
    card.model_copy(update={"metrics": fields, "votes": {"public": votes}}).write(
        models / "first.json"
    )
    return models


def quantize(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments)])


def ranges(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each quantized tensor that is no weight."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (stored[name].astype(float) for name in node.input[1:])
            found[node.input[0]] = (-zero * scale, (255 - zero) * scale)
    return found


def values(content: bytes, tensor: str, faces: np.ndarray) -> np.ndarray:
    """What a tensor inside a network holds."""
    model = onnx.load_from_string(content)
    model.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([tensor], {"faces": faces})[0]


def test_ranges_are_the_least_and_the_greatest_values(folder):
    content = (folder / "first.onnx").read_bytes()
    faces = np.stack([face(i, np.random.default_rng(i)) for i in range(5)])
    found = ranges(to_int8(content, faces))
    assert set(found) == {"active", "deeper"}
    for tensor, pair in found.items():
        inside = values(content, tensor, faces)
        step = (pair[1] - pair[0]) / 255
        assert pair == pytest.approx((inside.min(), inside.max()), abs=step)


def test_one_odd_picture_does_not_stretch_the_ranges_of_all(folder):
    content = (folder / "first.onnx").read_bytes()
    grey, white = np.full((48, 48), 128, np.uint8), np.full((48, 48), 255, np.uint8)
    found = ranges(to_int8(content, np.stack([grey] * 47 + [white])))
    usual, odd = (values(content, "active", one[None]).max() for one in (grey, white))
    # Of every 16 the greatest, and of these the mean.
    assert found["active"][1] == pytest.approx((usual + usual + odd) / 3, rel=1e-5)


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_file_and_a_card_of_their_own_are_written(folder, data, precision):
    result = quantize("first", "--data", data, "--out", folder, "--to", precision)
    assert result.exit_code == 0, result.output
    models = {n: load_model(folder, n, ON_CPU) for n in ("first", f"first_{precision}")}
    plain, converted = models.values()
    assert (plain.card.precision, converted.card.precision) == (None, precision)
    assert converted.card.sha256 != plain.card.sha256
    test = read_fer2013(data).test
    rows = converted.predict(test.faces)
    assert 0 < np.abs(rows - plain.predict(test.faces)).max() < 0.1
    assert converted.card.metrics["all"].n == len(test)
    assert converted.card.metrics["all"].accuracy == score(rows, test.labels).accuracy
    assert "train" not in converted.card.metrics  # what it was fitted to tells nothing
    assert converted.card.votes is None  # these have not been measured
    evaluated = open_model(folder / f"first_{precision}.onnx")(test.faces)
    assert np.abs(evaluated - rows).max() < 1e-6  # as it is served


def test_models_come_from_the_folder_of_the_settings_and_a_quantized_one_is_refused(
    folder, data, monkeypatch
):
    monkeypatch.setenv("FERSERVE_MODELS_DIR", str(folder))
    assert quantize("first", "--data", data).exit_code == 0
    assert (folder / "first_int8.onnx").is_file()
    again = quantize("first_int8", "--data", data)
    assert (again.exit_code, "computes in int8 already" in again.stderr) == (1, True)


@pytest.mark.parametrize(("labels", "said"), [(EMOTIONS, "sha256"), (EMOTIONS[::-1], "order")])
def test_a_file_of_another_card_or_order_is_refused(folder, data, write_standin, labels, said):
    path = write_standin(folder, "other", labels=labels)
    card = read_card(folder, "other").model_copy(update={"labels": list(labels)})
    if said == "sha256":
        path.write_bytes((folder / "first.onnx").read_bytes())
    card.write(folder / "other.json")
    result = quantize("other", "--data", data, "--out", folder)
    assert (result.exit_code, said in result.stderr) == (1, True)


def test_a_model_that_is_not_there_is_an_error(folder, data):
    result = quantize("third", "--data", data, "--out", folder)
    assert result.exit_code == 1
    assert result.stderr.startswith("ferserve: ")
    assert "third.json" in result.stderr


class TestTheCustomCnn:
    """What the conversions make of the released model."""

    @pytest.fixture(scope="class")
    def faces(self, photo) -> np.ndarray:
        """The astronaut's face, cut out closer and wider: uint8 ``[3, 48, 48]``."""
        boxes = [(161, 54, 289, 182), (171, 64, 279, 172), (151, 44, 299, 192)]
        cut = [Image.open(io.BytesIO(photo("astronaut", crop=box))).convert("L") for box in boxes]
        return np.stack([np.asarray(image.resize((48, 48))) for image in cut])

    @pytest.fixture(scope="class")
    def content(self) -> bytes:
        return (MODELS / "custom_cnn.onnx").read_bytes()

    @pytest.fixture(scope="class")
    def plain(self, faces) -> np.ndarray:
        return load_model(MODELS, "custom_cnn", ON_CPU).predict(faces)

    @pytest.fixture(scope="class")
    def in_int8(self, content, faces) -> onnx.ModelProto:
        return to_int8(content, faces)

    @pytest.fixture(scope="class")
    def in_float16(self, content) -> onnx.ModelProto:
        return to_float16(content)

    def test_int8_answers_nearly_alike(self, in_int8, faces, plain):
        rows = answers(in_int8, faces, keep_quantization=True)
        assert (rows.argmax(axis=1) == plain.argmax(axis=1)).all()
        assert 0 < np.abs(rows - plain).max() < 0.1

    def test_all_convolutions_but_the_first_compute_in_int8(self, in_int8, content, tmp_path):
        settings = ort.SessionOptions()
        settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        settings.log_severity_level = 3  # it warns that such a file is for this machine only
        ort.InferenceSession(in_int8.SerializeToString(), settings, ["CPUExecutionProvider"])
        nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        before = [node.op_type for node in onnx.load_from_string(content).graph.node]
        assert nodes.count("QLinearConv") == before.count("Conv") - 1

    def test_weights_keep_a_bit_free(self, in_int8):
        # Without VNNI processors add two products of a byte in 16 bits, which 8 would overflow.
        graph = in_int8.graph
        stored = {tensor.name: tensor for tensor in graph.initializer}
        producer = {name: node for node in graph.node for name in node.output}
        weights = [
            numpy_helper.to_array(stored[producer[node.input[1]].input[0]])
            for node in graph.node
            if node.op_type == "Conv" and node.input[1] in producer
        ]
        assert len(weights) == 7
        assert {one.dtype.name for one in weights} == {"int8"}
        assert max(np.abs(one.astype(int)).max() for one in weights) == 64

    def test_constants_are_folded_and_nothing_else_changes(self, content, faces, plain):
        folded = with_constants_folded(content)
        assert "DequantizeLinear" not in {node.op_type for node in folded.graph.node}
        np.testing.assert_allclose(answers(folded, faces), plain, atol=1e-5, rtol=0)

    def test_float16_answers_nearly_alike(self, in_float16, faces, plain):
        rows = answers(in_float16, faces)
        assert rows.dtype == np.float32
        assert 0 < np.abs(rows - plain).max() < FLOAT16_MOVED

    def test_convolutions_are_float16_and_what_is_around_them_float32(self, in_float16):
        types = types_of(in_float16)
        nodes = in_float16.graph.node
        halves = {types[node.output[0]] for node in nodes if node.op_type == "Conv"}
        assert halves == {TensorProto.FLOAT16}
        whole = [node for node in nodes if node.op_type in ("Softmax", "MatMul", "ReduceMean")]
        assert {types[node.output[0]] for node in whole} == {TensorProto.FLOAT}


def test_a_tensor_that_two_nodes_read_outside_the_trunk_is_cast_once():
    content = (MODELS / "light.onnx").read_bytes()
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    converted = to_float16(content)
    onnx.checker.check_model(converted)
    plain = answers(onnx.load_from_string(content), faces)
    assert 0 < np.abs(answers(converted, faces) - plain).max() < FLOAT16_MOVED


def answers(
    model: onnx.ModelProto, faces: np.ndarray, *, keep_quantization: bool = False
) -> np.ndarray:
    settings = ort.SessionOptions()
    settings.add_session_config_entry(
        "session.disable_quant_qdq", "0" if keep_quantization else "1"
    )
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"faces": faces})[0]


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The type of every tensor, inferred anew."""
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {info.name: info.type.tensor_type.elem_type for info in infos}


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
    converted = to_float16(model.SerializeToString())
    types = types_of(converted)
    halves = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert len(halves) == 5  # what enters, the kernel, one, positive, two
    casts = [node for node in converted.graph.node if node.op_type == "Cast"]
    assert len(casts) == 4  # uint8 to float32, two into the trunk, one out of it
