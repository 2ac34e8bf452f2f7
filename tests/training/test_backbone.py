"""Pretrained backbones: what is loaded, frozen, refused."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from ferserve_training import TrainingError
from ferserve_training.networks import resnet50v2, vgg16
from ferserve_training.networks.backbone import (
    freeze,
    load_backbone,
    load_imagenet,
)
from ferserve_training.networks.layers import (
    BatchNormalization,
    Upsampling,
    ZeroBorder,
    bilinear_matrix,
)
from ferserve_training.recipes import FineTuning
from synthetic_fer2013 import face


def write_legacy_h5(path: Path, layers: dict[str, list[np.ndarray]]) -> Path:
    """Writes weights in the layout of the files that Keras publishes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            group = file.create_group(name)
            keys = [f"{name}/{i}:0" for i in range(len(weights))]
            group.attrs["weight_names"] = [key.encode() for key in keys]
            for key, weight in zip(keys, weights, strict=True):
                group[key] = weight.astype(np.float16)
    return path


@pytest.fixture
def backbone() -> keras.Model:
    layers = [keras.layers.Dense(3, name=name) for name in ("block1_a", "block1_b", "block2_a")]
    return keras.Sequential([keras.Input((3,)), *layers], name="backbone")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i, rng) for i in range(3)])


DENSE = [np.full((3, 3), 2.0), np.full(3, 1.0)]


def test_layers_of_the_file_are_loaded_and_the_others_left(backbone, tmp_path):
    layers = {"input": [], "block1_a": DENSE, "block9_a": DENSE}
    path = write_legacy_h5(tmp_path / "weights.h5", layers)
    before = backbone.get_layer("block1_b").get_weights()[0].copy()
    load_backbone(backbone, path)
    assert np.array_equal(backbone.get_layer("block1_a").kernel, DENSE[0])
    assert np.array_equal(backbone.get_layer("block1_b").kernel, before)


def test_layers_of_another_shape_are_refused(backbone, tmp_path):
    path = write_legacy_h5(tmp_path / "weights.h5", {"block1_a": [np.zeros((4, 4)), np.zeros(4)]})
    with pytest.raises(TrainingError, match="not an HDF5 file of its Keras weights"):
        load_backbone(backbone, path)


def test_a_file_of_another_network_is_refused(backbone, tmp_path):
    path = write_legacy_h5(tmp_path / "weights.h5", {"dense": DENSE})
    with pytest.raises(TrainingError, match="none of its layers is one of backbone's"):
        load_backbone(backbone, path)


def test_a_file_that_is_no_weights_is_refused(backbone, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="not an HDF5 file of its Keras weights"):
        load_backbone(backbone, path)


@pytest.mark.parametrize(
    ("stage", "trainable"),
    [("", [True] * 3), ("block2", [False, False, True]), ("head", [False] * 3)],
)
def test_stages_below_the_first_trained_one_are_frozen(backbone, stage: str, trainable):
    freeze(backbone, FineTuning(trainable_from=stage))
    assert [layer.trainable for layer in backbone.layers] == trainable


def test_weights_that_cannot_be_downloaded_are_told_with_how_to_pass_them(
    backbone, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(TrainingError) as error:
        load_imagenet(backbone, "vgg16")
    assert "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5" in str(error.value)
    assert "--backbone-weights PATH" in str(error.value)


@pytest.mark.parametrize("side", [96, 224, 33])
def test_upsampling_is_tensorflow_s_bilinear_resize(faces, side: int):
    ours = np.asarray(Upsampling(side)(faces.astype(np.float32)))
    theirs = tf.image.resize(faces[..., None], (side, side)).numpy()[..., 0]
    assert np.abs(ours - theirs).max() < 1e-2  # of 255
    assert np.allclose(bilinear_matrix(48, side).sum(axis=1), 1)


def test_weights_trained_at_one_side_fit_another(tmp_path):
    trained, larger = vgg16.build(side=32), vgg16.build(side=48)
    trained.save_weights(tmp_path / "a.weights.h5")
    larger.load_weights(tmp_path / "a.weights.h5")
    assert all(map(np.array_equal, trained.get_weights(), larger.get_weights()))


def test_weights_of_earlier_versions_which_state_the_side_load(tmp_path):
    inputs = keras.Input((48, 48))
    network = keras.Model(inputs, Upsampling(64)(inputs))
    network.save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        file.require_group("layers/upsampling/vars")["side"] = 96
    network.load_weights(tmp_path / "a.weights.h5")


def test_zero_border_is_zero_padding():
    x = np.random.default_rng(0).normal(-3, 1, (2, 5, 6, 3)).astype("float32")
    assert np.array_equal(ZeroBorder()(x), keras.layers.ZeroPadding2D()(x))


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize(
    ("network", "published"),
    [(vgg16, keras.applications.VGG16), (resnet50v2, keras.applications.ResNet50V2)],
    ids=["vgg16", "resnet50v2"],
)
def test_backbone_computes_what_the_published_one_does(network, published, side: int, faces):
    """The published model on RGB faces, resized and preprocessed as its documentation says."""
    model = network.build(side=side)
    ours = keras.Model(model.input, model.get_layer("pool").output)
    theirs = published(weights=None, include_top=False, pooling="avg")
    rng = np.random.default_rng(0)
    for variable in theirs.weights:  # fresh statistics, 0 and 1, would hide how they are used
        if "kernel" not in variable.name:
            variable.assign(variable + rng.uniform(0, 0.2, variable.shape))
    model.get_layer("backbone").set_weights(theirs.get_weights())
    rgb = tf.image.resize(np.repeat(faces[..., None], 3, axis=-1), (side, side)).numpy()
    module = keras.applications.vgg16 if network is vgg16 else keras.applications.resnet_v2
    expected = theirs(module.preprocess_input(rgb), training=False)
    assert np.allclose(ours(faces, training=False), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("network", "millions"), [(vgg16, 15.0), (resnet50v2, 23.6)])
def test_uint8_faces_become_float32_logits_that_start_even(network, millions, faces):
    model = network.build(side=32)
    assert model.count_params() / 1e6 == pytest.approx(millions, abs=0.1)
    logits = model(faces, training=False)
    assert logits.dtype == "float32"
    assert np.array_equal(logits, np.zeros((3, 7)))


def test_frozen_normalisations_work_in_training_as_they_are_served():
    normalisation = BatchNormalization(name="bn")
    convolution = keras.layers.Conv2D(3, 1, name="convolution")
    network = keras.Sequential([keras.Input((4, 4, 2)), convolution, normalisation])
    inputs = np.random.default_rng(0).normal(5, 3, (8, 4, 4, 2)).astype("float32")
    assert not np.allclose(network(inputs, training=True), network(inputs, training=False))
    before = normalisation.get_weights()
    freeze(network, FineTuning(frozen_normalisation=True))
    assert np.allclose(network(inputs, training=True), network(inputs, training=False))
    assert [variable.name for variable in network.trainable_variables] == ["kernel", "bias"]
    for a, b in zip(before, normalisation.get_weights(), strict=True):
        assert np.array_equal(a, b)
