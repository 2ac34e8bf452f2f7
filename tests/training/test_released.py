"""`ferserve train --start-from`: training goes on from a released ONNX file."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import onnx
import pytest
from ferserve.card import ModelCard
from ferserve.fer2013.reader import read_fer2013
from ferserve_export.compress import compress
from ferserve_export.convert import convert, serving
from ferserve_export.verify import verify_parity
from ferserve_training import TrainingError
from ferserve_training.callbacks import AveragedWeights, History
from ferserve_training.model import TrainingModel
from ferserve_training.networks import custom_cnn, light
from ferserve_training.networks.layers import BatchNormalization
from ferserve_training.recipes import Recipe, find_recipe
from ferserve_training.released import load_start
from ferserve_training.run_folder import RunFolder, load_network
from ferserve_training.train import train
from synthetic_fer2013 import face
from training_runs import run_ferserve

MODELS = Path(__file__).resolve().parents[2] / "models"

Build = Callable[[], keras.Model]


def small_cnn() -> keras.Model:
    """Every normalisation is folded; the last stages have weights enough to be stored as int8."""
    return custom_cnn.build(widths=(8, 8, 128, 128))


def preactivated() -> keras.Model:
    """As in ResNet50V2: a normalisation in front of its convolution, which cannot be folded."""
    inputs = keras.Input((48, 48), dtype="uint8", name="faces")
    x = keras.ops.expand_dims(keras.ops.cast(inputs, "float32"), -1) / 128
    x = keras.layers.Conv2D(8, 3, 4, name="stem")(x)
    y = keras.layers.ReLU()(BatchNormalization(name="kept_bn")(x))
    y = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="folded")(y)
    y = keras.layers.ReLU()(BatchNormalization(name="folded_bn")(y))
    y = keras.layers.Conv2D(8, 1, name="out")(y)
    x = keras.layers.GlobalAveragePooling2D()(x + y)
    return keras.Model(inputs, keras.layers.Dense(7, name="logits")(x))


@pytest.fixture(params=[small_cnn, preactivated])
def build(request: pytest.FixtureRequest) -> Build:
    return request.param


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i % 7, rng) for i in range(100)])  # no whole number of batches


def trained(build: Build) -> keras.Model:
    """Weights, statistics and biases as after some training: none is as it was set up."""
    keras.utils.set_random_seed(0)
    network = build()
    rng = np.random.default_rng(1)
    for variable in network.weights:
        if len(variable.shape) == 1:
            spread = rng.uniform(0.5, 1.5, variable.shape)
            offset = 0 if variable.name in ("gamma", "moving_variance") else -1
            variable.assign(spread + offset)
    return network


def normalisations(network: keras.Model) -> list[keras.layers.Layer]:
    return [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("stored", ["float32", "int8"])
def test_the_restored_network_answers_as_the_file(build: Build, faces, stored: str, tmp_path: Path):
    settings = {"temperature": 1.3, "mirror": True}
    model = convert(serving(trained(build), **settings))
    model = compress(model) if stored == "int8" else model
    onnx.save(model, tmp_path / "model.onnx")
    restored = build()
    load_start(restored, tmp_path / "model.onnx", faces)
    assert verify_parity(serving(restored, **settings), model, faces[:9]) < 1e-5


def test_what_is_tested_is_stored_as_int8_and_folded(faces):
    operators = [node.op_type for node in compress(convert(serving(trained(small_cnn)))).graph.node]
    assert "DequantizeLinear" in operators
    assert "BatchNormalization" not in operators
    operators = [node.op_type for node in convert(serving(trained(preactivated))).graph.node]
    assert operators.count("BatchNormalization") == 1


def test_folded_normalisations_have_the_statistics_of_the_faces(build: Build, faces, tmp_path):
    network = trained(build)
    onnx.save(convert(serving(network)), tmp_path / "model.onnx")
    kept = {"kept_bn"} & {layer.name for layer in network.layers}
    load_start(network, tmp_path / "model.onnx", faces)
    for layer in normalisations(network):
        values = np.asarray(keras.Model(network.input, layer.input)(faces, training=False))
        close = [
            np.allclose(layer.moving_mean, values.mean((0, 1, 2)), rtol=1e-3, atol=1e-4),
            np.allclose(layer.moving_variance, values.var((0, 1, 2)), rtol=1e-3, atol=1e-4),
        ]
        assert close == [layer.name not in kept] * 2, layer.name


def test_a_normalisation_that_was_not_folded_comes_back_as_it_was(faces, tmp_path):
    network, restored = trained(preactivated), preactivated()
    onnx.save(convert(serving(network)), tmp_path / "model.onnx")
    load_start(restored, tmp_path / "model.onnx", faces)
    before, after = (n.get_layer("kept_bn").get_weights() for n in (network, restored))
    for a, b in zip(before, after, strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_the_released_custom_cnn_comes_back():
    path = MODELS / "custom_cnn.onnx"
    card = ModelCard.read(path.with_suffix(".json"))
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48), np.uint8)
    network = custom_cnn.build()
    load_start(network, path, faces)
    settings = {
        "temperature": card.temperature,
        "mirror": card.mirror_averaging,
        "power_scaling": card.power_scaling,
    }
    assert verify_parity(serving(network, **settings), onnx.load(path), faces[:7]) < 1e-5


def test_a_second_head_starts_as_a_copy_of_the_first(faces, tmp_path: Path):
    path = tmp_path / "small.onnx"
    onnx.save(convert(serving(trained(small_cnn))), path)
    one, two = small_cnn(), custom_cnn.build(widths=(8, 8, 128, 128), heads=2)
    for network in (one, two):
        load_start(network, path, faces)
    answers = two.predict(faces[:8], verbose=0)
    assert np.ptp(answers) > 0
    np.testing.assert_allclose(answers[:, :7], answers[:, 7:], atol=1e-5)
    np.testing.assert_allclose(answers[:, :7], one.predict(faces[:8], verbose=0), atol=1e-4)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (MODELS / "custom_cnn.json", r"custom_cnn\.json: not an ONNX file"),
        (MODELS / "vgg16.onnx", r"vgg16\.onnx: not the weights of custom_cnn"),
        (MODELS / "face_detector.onnx", r"face_detector\.onnx: not the weights of custom_cnn"),
    ],
)
def test_what_is_no_export_of_the_network_is_refused(file: str | Path, message: str, faces):
    with pytest.raises(TrainingError, match=message):
        load_start(custom_cnn.build(), Path(file), faces)


def test_an_export_of_other_widths_is_refused(faces, tmp_path: Path):
    path = tmp_path / "narrow.onnx"
    onnx.save(convert(serving(trained(small_cnn))), path)
    with pytest.raises(TrainingError, match=r"narrow\.onnx: not the weights of custom_cnn"):
        load_start(custom_cnn.build(), path, faces)


def test_a_run_in_half_precision_gets_the_weights_in_full(build: Build, faces, tmp_path: Path):
    model = convert(serving(trained(build)))
    onnx.save(model, tmp_path / "model.onnx")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build()
        load_start(half, tmp_path / "model.onnx", faces)
    finally:
        keras.config.set_dtype_policy("float32")
    restored = build()
    restored.set_weights(half.get_weights())
    assert verify_parity(serving(restored), model, faces[:9]) < 1e-5


def test_one_more_epoch_is_trained_from_the_file(small_zip: Path, tmp_path: Path):
    folder, path = tmp_path / "run", MODELS / "custom_cnn.onnx"
    arguments = ["custom_cnn", "--data", small_zip, "--out", folder, "--start-from", path]
    settings = ["--limit", 70, "--batch-size", 16, "--epochs", 1]
    result = run_ferserve("train", *arguments, *settings)
    assert result.returncode == 0, result.stderr
    description = json.loads((folder / "run.json").read_text())
    sha256 = ModelCard.read(path.with_suffix(".json")).sha256
    assert description["started_from"] == {"model": "custom_cnn.onnx", "sha256": sha256}
    before = custom_cnn.build()
    load_start(before, path, read_fer2013(small_zip).train.faces)
    kernels = [n.get_layer("stage4_2").kernel for n in (before, load_network(RunFolder(folder)))]
    flat = [keras.ops.convert_to_numpy(kernel).ravel() for kernel in kernels]
    assert not np.array_equal(*flat)
    assert np.corrcoef(*flat)[0, 1] > 0.95  # of random ones: 0


def test_weights_of_another_network_are_refused(tmp_path: Path):
    light.build().save_weights(tmp_path / "light.weights.h5")
    with pytest.raises(TrainingError, match=r"light\.weights\.h5: not the weights of custom_cnn"):
        load_start(custom_cnn.build(), tmp_path / "light.weights.h5", np.empty(0))


def test_another_network_s_file_leaves_no_run(small_zip: Path, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    recipe = find_recipe("custom_cnn", "default", precision="float32")
    with pytest.raises(TrainingError, match="not the weights of custom_cnn"):
        train(recipe, read_fer2013(small_zip), folder, start_from=MODELS / "vgg16.onnx")
    assert not folder.root.exists()


class Recorded(TrainingModel):
    """Notes the seed of each run's random draws."""

    seeds: ClassVar[list[int]] = []

    def __init__(self, network: keras.Model, recipe: Recipe, seed: int) -> None:
        self.seeds.append(seed)
        super().__init__(network, recipe, seed)


class Interrupted(History):
    """The second epoch is done."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt


class Unscored(AveragedWeights):
    """The first epoch is done, but not scored."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def start(small_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trains a small network for three epochs, from a file that holds another one's weights."""
    onnx.save(convert(serving(trained(small_cnn))), tmp_path / "small.onnx")
    (tmp_path / "other.onnx").write_bytes(b"another file")
    recipe = find_recipe("custom_cnn", "default", epochs=3, precision="float32")
    dataset, folder = read_fer2013(small_zip), RunFolder(tmp_path / "run")
    monkeypatch.setattr("ferserve_training.train.build_network", lambda *_, **__: small_cnn())

    def start(file: str = "small.onnx", resume: bool = False) -> None:
        train(recipe, dataset, folder, start_from=tmp_path / file, limit=70, resume=resume)

    return start


def test_a_run_goes_on_from_the_weights_of_another(start, tmp_path: Path):
    before, after = trained(small_cnn), small_cnn()
    before.save_weights(tmp_path / "best.weights.h5")
    start("best.weights.h5")
    folder = RunFolder(tmp_path / "run")
    assert folder.read_description()["started_from"]["model"] == "best.weights.h5"
    after.load_weights(folder.weights)
    kernels = [keras.ops.convert_to_numpy(n.get_layer("stage4_2").kernel) for n in (before, after)]
    assert np.corrcoef(*(kernel.ravel() for kernel in kernels))[0, 1] > 0.95  # of random ones: 0


def epochs(folder: Path) -> list[str]:
    with RunFolder(folder).history.open(newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def test_an_interrupted_run_goes_on_from_its_checkpoint(start, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("ferserve_training.train.TrainingModel", Recorded)
    with pytest.MonkeyPatch.context() as interruption:
        interruption.setattr("ferserve_training.train.History", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            start()
    with pytest.raises(TrainingError, match="was started with another started_from"):
        start("other.onnx", resume=True)
    monkeypatch.delattr("ferserve_training.train.load_start")  # the checkpoint holds all weights
    start(resume=True)
    first, second = Recorded.seeds
    assert first != second  # else the first epochs' faces come again, changed in the same ways
    assert epochs(tmp_path / "run") == ["1", "2", "3"]


def test_an_epoch_that_was_not_scored_is_trained_again_from_the_same_start(
    start, tmp_path: Path, monkeypatch
):
    with pytest.MonkeyPatch.context() as interruption:
        interruption.setattr("ferserve_training.train.AveragedWeights", Unscored)
        with pytest.raises(KeyboardInterrupt):
            start()
    assert not (tmp_path / "run" / "best.weights.h5").exists()
    loaded: list[Path] = []
    monkeypatch.setattr(
        "ferserve_training.train.load_start", lambda network, path, faces: loaded.append(path)
    )
    start(resume=True)
    assert loaded == [tmp_path / "small.onnx"]
    assert epochs(tmp_path / "run") == ["1", "2", "3"]
    assert (tmp_path / "run" / "best.weights.h5").exists()
