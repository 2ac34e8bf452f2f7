"""int8 models made at start-up: close to the float32 ones, and honest about it."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from ferserve.bundle import CPU, CUDA, ModelError, load_bundle, read_card, served_card
from ferserve.card import Int8Card
from ferserve.ensemble import load_bundles
from ferserve.runtime.int8 import to_int8, with_constants_folded
from onnx import numpy_helper
from PIL import Image

MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = ("custom_cnn", "vgg16", "resnet50v2")


@pytest.fixture(scope="module")
def faces(photo) -> np.ndarray:
    """The astronaut's face, cut out closer and wider: uint8 ``[3, 48, 48]``."""
    boxes = [(161, 54, 289, 182), (171, 64, 279, 172), (151, 44, 299, 192)]
    cut = [Image.open(io.BytesIO(photo("astronaut", crop=box))).convert("L") for box in boxes]
    return np.stack([np.asarray(image.resize((48, 48))) for image in cut])


@pytest.fixture(scope="module")
def converted() -> dict[str, bytes]:
    """The models of the repository in int8, by name."""
    return {name: to_int8(content(name), name, int8_card(name).ranges) for name in NAMES}


def content(name: str) -> bytes:
    return (MODELS / f"{name}.onnx").read_bytes()


def int8_card(name: str) -> Int8Card:
    return Int8Card.read(MODELS / "int8" / f"{name}.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Custom CNN and its cards."""
    (tmp_path / "int8").mkdir()
    for file in ("custom_cnn.onnx", "custom_cnn.json", "int8/custom_cnn.json"):
        (tmp_path / file).write_bytes((MODELS / file).read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", [*NAMES, "ensemble"])
def test_a_model_in_int8_answers_nearly_alike(name, faces):
    plain = load_bundles(MODELS, [name], provider="cpu")[name].predict(faces)
    fast = load_bundles(MODELS, [name], provider="cpu", precision="int8")[name].predict(faces)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast.sum(axis=1), 1, atol=1e-6)
    assert (fast.argmax(axis=1) == plain.argmax(axis=1)).all()
    moved = np.abs(fast - plain).max()
    assert 0 < moved < 0.1  # 0 would mean that nothing was converted


def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(faces):
    bundle = load_bundle(MODELS, "custom_cnn", provider="cpu", precision="int8")
    alone = np.concatenate([bundle.predict(face[None]) for face in faces])
    np.testing.assert_allclose(bundle.predict(faces), alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_all_convolutions_but_the_first_compute_in_int8(name, converted, tmp_path):
    settings = ort.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    settings.log_severity_level = 3  # it warns that such a file is for this machine only
    ort.InferenceSession(converted[name], settings, ["CPUExecutionProvider"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    convolutions = sum(
        node.op_type == "Conv" for node in onnx.load_from_string(content(name)).graph.node
    )
    assert sum(node == "QLinearConv" for node in nodes) == convolutions - 1


def test_weights_keep_a_bit_free(converted):
    # Without VNNI processors add two products of a byte in 16 bits, which 8 bits would overflow.
    graph = onnx.load_from_string(converted["custom_cnn"]).graph
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


def test_input_output_and_metadata_stay(converted):
    before, after = (onnx.load_from_string(one) for one in (content("vgg16"), converted["vgg16"]))
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert list(after.metadata_props) == list(before.metadata_props)


def test_constants_are_folded_and_nothing_else_changes(faces):
    folded = with_constants_folded(content("custom_cnn"))
    assert "DequantizeLinear" not in {node.op_type for node in folded.graph.node}
    session = ort.InferenceSession(folded.SerializeToString(), providers=["CPUExecutionProvider"])
    plain = load_bundle(MODELS, "custom_cnn", provider="cpu").predict(faces)
    np.testing.assert_allclose(session.run(None, {"faces": faces})[0], plain, atol=1e-5, rtol=0)


def test_the_card_states_what_is_served(folder):
    served = load_bundle(folder, "custom_cnn", provider="cpu", precision="int8").card
    plain = read_card(folder, "custom_cnn")
    assert plain.precision is None
    assert served.precision == "int8"
    assert served.metrics == int8_card("custom_cnn").metrics
    assert served.version == f"{plain.version}+int8"
    assert served.sha256 == int8_card("custom_cnn").identity() != plain.sha256
    changed = served.model_dump(include={"precision", "metrics", "version", "sha256"})
    assert served.model_dump() == plain.model_dump() | changed
    assert served_card(folder, "custom_cnn", "int8") == served
    assert served_card(folder, "custom_cnn", "float32") == plain


def test_a_converted_model_is_kept_where_there_is_a_folder(folder, tmp_path, faces):
    cache = tmp_path / "cache"
    options = {"provider": "cpu", "precision": "int8", "cache_dir": cache}
    first = load_bundle(folder, "custom_cnn", **options).predict(faces)
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(
        load_bundle(folder, "custom_cnn", **options).predict(faces), first
    )
    assert kept.stat().st_mtime_ns == written
    path = folder / "int8" / "custom_cnn.json"
    card = Int8Card.read(path)
    wider = {tensor: (2 * low, 2 * high) for tensor, (low, high) in card.ranges.items()}
    card.model_copy(update={"ranges": wider}).write(path)
    load_bundle(folder, "custom_cnn", **options)
    assert len(list(cache.iterdir())) == 2  # other ranges are another model


def test_a_model_whose_ranges_are_not_known_is_refused(standin_models):
    with pytest.raises(ModelError, match=r"first\.json: .*; .* ferserve quantize first makes it"):
        load_bundle(standin_models, "first", provider="cpu", precision="int8")


def test_ranges_of_another_file_are_refused(folder):
    path = folder / "int8" / "custom_cnn.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    with pytest.raises(ModelError, match="was made of another custom_cnn"):
        load_bundle(folder, "custom_cnn", provider="cpu", precision="int8")


@pytest.mark.parametrize(
    "broken",
    [
        {"ranges": None},
        {"ranges": {"a": [5, -5]}},
        {"ranges": {"a": [0, float("inf")]}},
        {"ranges": {"a": [0, float("nan")]}},
        {"metrics": {}},
    ],
)
def test_a_card_that_makes_no_sense_is_refused(folder, broken):
    path = folder / "int8" / "custom_cnn.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | broken))
    with pytest.raises(ModelError, match="not the card of a model in int8"):
        load_bundle(folder, "custom_cnn", provider="cpu", precision="int8")


def test_a_convolution_without_a_range_is_refused():
    with pytest.raises(ModelError, match=r"custom_cnn\.onnx: cannot be converted to int8"):
        to_int8(content("custom_cnn"), "custom_cnn.onnx", {})


def test_without_onnx_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="precision=int8 needs onnx"):
        load_bundle(folder, "custom_cnn", provider="cpu", precision="int8")


def test_on_a_gpu_it_is_refused(folder, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.raises(ModelError, match="int8 is there on the CPU only"):
        load_bundle(folder, "custom_cnn", provider="cuda", precision="int8")


def test_auto_takes_the_cpu_beside_a_gpu(folder, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    assert load_bundle(folder, "custom_cnn", precision="int8").provider == CPU
