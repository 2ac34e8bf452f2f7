import keras
import numpy as np
import pytest
from ferserve_training.networks import custom_cnn, light
from ferserve_training.networks.layers import BatchNormalization, select_head
from synthetic_fer2013 import face


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, (8, 6, 6, 5)).astype("float32")


def test_custom_cnn_has_about_five_million_weights():
    assert 4.5e6 < custom_cnn.build().count_params() < 5.5e6


def test_custom_cnn_turns_uint8_faces_into_float32_logits():
    rng = np.random.default_rng(0)
    faces = np.stack([face(i, rng) for i in range(7)])
    logits = custom_cnn.build(widths=(8, 8, 8, 8))(faces, training=False)
    assert logits.shape == (7, 7)
    assert np.asarray(logits).dtype == np.float32
    assert np.ptp(np.asarray(logits), axis=0).max() > 0


@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_normalisation_computes_what_keras_does(inputs, training: bool):
    ours, keras_own = BatchNormalization(), keras.layers.BatchNormalization()
    for layer in (ours, keras_own):
        layer.build(inputs.shape)
        layer.set_weights([np.arange(1.0, 6), np.arange(5.0), np.full(5, 2.0), np.full(5, 3.0)])
    assert np.allclose(
        ours(inputs, training=training), keras_own(inputs, training=training), atol=1e-4
    )
    # The kernel divides by n - 1 for the moving variance: 288 values make 0.4 % of a difference.
    for a, b in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-3)


def test_a_frozen_layer_uses_and_keeps_its_moving_statistics(inputs):
    layer = BatchNormalization()
    layer.build(inputs.shape)
    layer.trainable = False
    assert np.allclose(layer(inputs, training=True), layer(inputs, training=False))
    assert np.array_equal(layer.moving_mean, np.zeros(5))


def multiply_adds(network: keras.Model) -> float:
    """Of all convolutions for one face: an output pixel times what is added up for it."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            pixels = np.prod(layer.output.shape[1:3])
            total += pixels * np.prod(layer.kernel.shape)
    return float(total)


def test_the_light_network_and_its_mirror_take_60_million_multiply_adds():
    assert 2 * multiply_adds(light.build()) <= 60e6
    assert multiply_adds(light.build(side=64)) <= 60e6  # without
    assert multiply_adds(custom_cnn.build()) > 450e6


def test_each_head_of_a_network_is_a_network_of_its_own():
    network = light.build(heads=2)
    kernel = np.random.default_rng(0).normal(0, 1, network.get_layer("logits").kernel.shape)
    network.get_layer("logits").kernel.assign(kernel)
    faces = np.random.default_rng(1).integers(0, 256, (2, 48, 48), np.uint8)
    both = np.asarray(network(faces, training=False))
    assert both.shape == (2, 14)
    for head in (0, 1):
        alone = np.asarray(select_head(network, head)(faces, training=False))
        assert np.allclose(alone, both[:, 7 * head : 7 * head + 7], atol=1e-5)
    assert np.abs(both[:, :7] - both[:, 7:]).max() > 0.01
