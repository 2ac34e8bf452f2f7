import keras
import numpy as np
import pytest
from ferserve_training.batch_statistics import StatisticsEstimator, kept_statistics
from ferserve_training.networks.layers import BatchNormalization


@pytest.fixture
def network() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    inner = keras.Sequential([keras.Input((4, 4, 3)), BatchNormalization(name="bn")])
    return keras.Model(inputs, inner(inputs))


@pytest.fixture
def batches() -> np.ndarray:
    return np.random.default_rng(0).normal(5, 3, (6, 16, 4, 4, 3)).astype("float32")


def moving(network: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v) for v in network.non_trainable_variables]


def test_statistics_become_the_mean_over_the_batches(network, batches):
    StatisticsEstimator(network).estimate(np.concatenate(batches), 16)
    mean, variance = moving(network)
    assert np.allclose(mean, batches.mean(axis=(0, 1, 2, 3)), atol=1e-4)
    assert np.allclose(variance, batches.var(axis=(1, 2, 3)).mean(axis=0), rtol=0.01)


def test_what_stood_there_before_does_not_matter(network, batches):
    StatisticsEstimator(network).estimate(np.concatenate(batches), 16)
    first = moving(network)
    for variable in network.non_trainable_variables:
        variable.assign(np.full(3, 1e6))
    StatisticsEstimator(network).estimate(np.concatenate(batches), 16)
    assert all(np.allclose(a, b) for a, b in zip(first, moving(network), strict=True))


def test_momentum_and_weights_stay(network, batches):
    weights = [keras.ops.convert_to_numpy(v).copy() for v in network.trainable_variables]
    StatisticsEstimator(network).estimate(np.concatenate(batches), 16)
    (layer,) = [x for x in network._flatten_layers() if isinstance(x, BatchNormalization)]
    assert layer.momentum == 0.99
    for before, variable in zip(weights, network.trainable_variables, strict=True):
        assert np.array_equal(before, variable)


def test_kept_statistics_come_back_after_an_error(network, batches):
    before = [value.copy() for value in moving(network)]

    def fail() -> None:
        with kept_statistics(network):
            StatisticsEstimator(network).estimate(np.concatenate(batches), 16)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(np.array_equal(a, b) for a, b in zip(before, moving(network), strict=True))
