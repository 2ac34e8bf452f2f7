import keras
import numpy as np
import pytest
from ferserve_training.networks import custom_cnn
from ferserve_training.networks.layers import BatchNormalization
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
