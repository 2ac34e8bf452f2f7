"""Export of a network that JAX trained: what TensorFlow, tf2onnx and the service make of it."""

import hashlib
import json
import math
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx
from ferserve.card import ModelCard, PowerScaling
from ferserve.cli import app
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score
from ferserve_export import ExportError
from ferserve_export.calibrate import (
    confidence_threshold,
    fit_power_scaling,
    fit_temperature,
    mean_probabilities,
    power_scaled,
)
from ferserve_export.compress import compress
from ferserve_export.convert import OPSET, convert, serving
from ferserve_export.float16 import to_float16
from ferserve_export.verify import verify_compression, verify_parity
from ferserve_training.evaluate import open_onnx
from ferserve_training.holdout import split_training
from ferserve_training.networks import custom_cnn
from ferserve_training.run_folder import RunFolder, load_network
from power_scaling import apply_power_scaling
from synthetic_fer2013 import face
from typer.testing import CliRunner, Result

SCALING = PowerScaling(scale=0.4, exponent=1.7)
"""About what label smoothing asks for."""


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i % 7, rng) for i in range(14)])


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return custom_cnn.build(widths=(8, 8, 8, 8))


@pytest.fixture(scope="module")
def models(network) -> dict[bool, onnx.ModelProto]:
    """Its exports, by whether they average with the mirror image."""
    return {mirror: convert(serving(network, mirror=mirror)) for mirror in (False, True)}


def export(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Result:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # which the command sets for good
    return CliRunner().invoke(app, ["export", "custom_cnn", *map(str, arguments)])


def probabilities(model: onnx.ModelProto, faces: np.ndarray) -> np.ndarray:
    return open_onnx(model.SerializeToString())(faces)


def test_graph_keeps_the_contract(models):
    session = onnxruntime.InferenceSession(models[False].SerializeToString())
    (faces_input,) = session.get_inputs()
    (output,) = session.get_outputs()
    assert (faces_input.name, faces_input.type) == ("faces", "tensor(uint8)")
    assert faces_input.shape == ["N", 48, 48]
    assert (output.name, output.type) == ("probabilities", "tensor(float)")
    assert output.shape == ["N", 7]


@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("count", [1, 2, 7, 14])
def test_rows_are_probabilities_at_any_batch_size(models, faces, mirror: bool, count: int):
    rows = probabilities(models[mirror], faces[:count])
    assert rows.shape == (count, 7)
    assert (rows >= 0).all()
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("scaling", [None, SCALING], ids=["tempered", "scaled"])
@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
def test_graph_answers_as_keras_does(network, faces, mirror: bool, scaling: PowerScaling | None):
    settings = {"mirror": mirror, "temperature": 1.3, "power_scaling": scaling}
    serve = serving(network, **settings)
    assert verify_parity(serve, convert(serve), faces) < 1e-5


@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
def test_power_scaling_is_done_to_what_was_served_before(network, models, faces, mirror: bool):
    scaling = convert(serving(network, mirror=mirror, power_scaling=SCALING))
    plain, scaled = (probabilities(model, faces) for model in (models[mirror], scaling))
    assert np.allclose(scaled, apply_power_scaling(plain, SCALING), atol=1e-6)
    assert np.abs(scaled - plain).max() > 0.01


def test_parity_check_sees_another_power_scaling(network, faces):
    model = convert(serving(network, power_scaling=SCALING))
    with pytest.raises(ExportError, match="differ by"):
        verify_parity(serving(network), model, faces)


def test_graph_without_power_scaling_has_no_trace_of_it(models):
    operators = {node.op_type for node in models[True].graph.node}
    assert not operators & {"Log", "Pow", "Min"}


@pytest.mark.parametrize("scaling", [SCALING, PowerScaling(scale=20, exponent=3)])
def test_certainty_and_what_rounding_puts_above_it_are_no_trap(scaling: PowerScaling):
    above = np.nextafter(np.float32(1), np.float32(2))
    least = np.finfo(np.float32).smallest_subnormal
    rows = np.array(
        [
            [1, 0, 0, 0, 0, 0, 0],
            [0, above, 0, 0, 0, 0, 0],
            [0, 0, above, least, least, 0, 0],
            [1e-30, 0.5, 0.3, 0.2, 0, 0, 0],
        ],
        np.float32,
    )
    signature = [tf.TensorSpec((None, 7), tf.float32)]
    function = tf.function(lambda p: power_scaled(p, scaling), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (exported,) = session.run(None, {session.get_inputs()[0].name: rows})
    expected = apply_power_scaling(rows, scaling)
    assert np.allclose(function(rows), expected, atol=1e-6)
    assert np.allclose(exported, expected, atol=1e-6)


def test_an_overwhelmingly_sure_network_still_answers_in_numbers(network, faces):
    sure = {"temperature": 1e-4, "mirror": True, "power_scaling": SCALING}
    model = convert(serving(network, **sure))
    rows = probabilities(model, faces)
    assert (rows.max(axis=1) > 0.999).any()
    assert np.isfinite(rows).all()
    assert verify_parity(serving(network, **sure), model, faces[:1]) < 1e-4


def test_int8_weights_and_float16_leave_power_scaling_as_it_is(faces):
    keras.utils.set_random_seed(0)
    wide = custom_cnn.build(widths=(8, 8, 128, 128))  # enough weights to be stored as int8
    model = convert(serving(wide, mirror=True, power_scaling=SCALING))
    small = compress(model)
    assert len(small.SerializeToString()) < 0.5 * len(model.SerializeToString())
    rows = probabilities(model, faces)
    assert np.abs(probabilities(small, faces) - rows).max() < 0.02
    half = open_onnx(to_float16(model.SerializeToString()).SerializeToString())(faces)
    assert np.abs(half - rows).max() < 0.004


def test_parity_check_sees_other_weights(models, faces):
    keras.utils.set_random_seed(1)
    with pytest.raises(ExportError, match="differ by"):
        verify_parity(serving(custom_cnn.build(widths=(8, 8, 8, 8))), models[False], faces)


def test_mirrored_graph_is_blind_to_mirroring(models, faces):
    mirrored = np.ascontiguousarray(faces[:, :, ::-1])
    rows, expected = (probabilities(models[True], views) for views in (mirrored, faces))
    assert np.allclose(rows, expected, atol=1e-6)


def test_temperature_divides_the_logits(network, models, faces):
    heated = convert(serving(network, temperature=4.0))
    cold, warm = (probabilities(model, faces) for model in (models[False], heated))
    gaps = np.log(cold[:, :1]) - np.log(cold)
    assert np.allclose(np.log(warm[:, :1]) - np.log(warm), gaps / 4, atol=1e-4)


def test_card_says_what_was_measured_on_the_file(exported: Path, small_zip: Path):
    card = ModelCard.read(exported / "custom_cnn.json")
    dataset = read_fer2013(small_zip)
    rows = open_onnx((exported / "custom_cnn.onnx").read_bytes())(dataset.test.faces)
    assert set(card.metrics) == {"all", "public", "private", "leak_free", "train"}
    assert card.metrics["all"].n == len(dataset.test)
    assert card.metrics["all"].accuracy == score(rows, dataset.test.labels).accuracy
    assert card.labels == list(EMOTIONS)
    assert card.training["dataset_sha256"] == dataset.sha256()


def test_card_stands_in_the_onnx_file_too(exported: Path):
    data = (exported / "custom_cnn.onnx").read_bytes()
    card = json.loads((exported / "custom_cnn.json").read_text())
    metadata = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    assert hashlib.sha256(data).hexdigest() == card.pop("sha256")
    assert set(metadata) == set(card)
    assert json.loads(metadata["metrics"]) == card["metrics"]
    assert metadata["name"] == "custom_cnn"


def test_calibration_and_threshold_are_those_of_the_hold_out(
    exported: Path, jax_run: Path, small_zip: Path
):
    keras.config.set_dtype_policy("float32")
    network = load_network(RunFolder(jax_run))
    _, holdout = split_training(read_fer2013(small_zip).train, 0.1, None, 0)
    views = [network(v, training=False) for v in (holdout.faces, holdout.faces[:, :, ::-1])]
    card = ModelCard.read(exported / "custom_cnn.json")
    logits, targets = [np.asarray(v) for v in views], np.eye(7)[holdout.labels]
    expected = fit_temperature(logits, targets)
    assert card.temperature == pytest.approx(expected, rel=1e-3)
    mean = mean_probabilities(logits, card.temperature)
    rows = open_onnx((exported / "custom_cnn.onnx").read_bytes())(holdout.faces)
    assert np.allclose(rows, apply_power_scaling(mean, card.power_scaling), atol=1e-4)
    best = apply_power_scaling(mean, fit_power_scaling(mean, targets))
    chosen = np.arange(len(holdout)), holdout.labels
    assert np.log(rows[chosen]).mean() == pytest.approx(np.log(best[chosen]).mean(), abs=1e-3)
    expected = confidence_threshold(rows, targets)
    assert card.low_confidence_threshold == pytest.approx(expected, abs=1e-4)


def test_a_graph_that_answers_no_numbers_passes_no_check(network, faces):
    model = convert(serving(network, temperature=math.nan))
    with pytest.raises(ExportError, match="differ by nan"):
        verify_parity(serving(network), model, faces)
    none = lambda faces: np.full((len(faces), 7), np.nan, np.float32)  # noqa: E731
    some = lambda faces: np.full((len(faces), 7), 1 / 7, np.float32)  # noqa: E731
    with pytest.raises(ExportError, match="moves a probability by nan"):
        verify_compression(some, none, faces, np.zeros(len(faces), int))


def test_compression_that_changes_the_answers_is_refused(models, faces):
    keras.utils.set_random_seed(1)
    other = convert(serving(custom_cnn.build(widths=(8, 8, 8, 8))))
    with pytest.raises(ExportError, match="moves a probability by"):
        verify_compression(
            open_onnx(models[False].SerializeToString()),
            open_onnx(other.SerializeToString()),
            faces,
            np.zeros(len(faces), int),
        )


def test_int8_export_is_a_quarter_of_the_size(
    exported: Path, jax_run: Path, small_zip: Path, tmp_path: Path, monkeypatch
):
    arguments = ("--data", small_zip, "--run", jax_run, "--out", tmp_path, "--int8")
    result = export(monkeypatch, *arguments)
    assert result.exit_code == 0, result.output
    assert "int8 weights: a probability moved by up to" in result.stdout
    sizes = [(folder / "custom_cnn.onnx").stat().st_size for folder in (tmp_path, exported)]
    assert sizes[0] < 0.3 * sizes[1]


def test_a_folder_without_a_run_is_named(small_zip: Path, tmp_path: Path, monkeypatch):
    result = export(monkeypatch, "--data", small_zip, "--run", tmp_path / "none")
    assert result.exit_code == 1
    assert "none: no best.weights.h5 with run.json" in result.stderr
