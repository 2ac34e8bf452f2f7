import math

import keras
import numpy as np
import pytest
from ferserve_training.callbacks import AveragedWeights, estimate_statistics
from ferserve_training.networks.layers import BatchNormalization


def dense_model(**optimizer) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(7, name="dense")])
    adamw = keras.optimizers.AdamW(0.1, use_ema=True, ema_momentum=0.9, **optimizer)
    model.compile(
        adamw, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    return model


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, 4)).astype("float32"), np.eye(7, dtype="float32")[
        rng.integers(0, 7, 64)
    ]


def test_averaged_weights_are_saved_and_the_network_keeps_its_own(data, tmp_path):
    model = dense_model()
    path = tmp_path / "best.weights.h5"
    during: list[np.ndarray] = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_, **__: during.append(model.get_weights()[0])
    )
    averaged = AveragedWeights(model, path, data[0], 8, holdout=None)
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged, keep], verbose=0)
    # Keras itself ends a run by putting the average into the model.
    final = model.get_weights()[0]
    saved = dense_model()
    saved.load_weights(path)
    assert np.allclose(saved.get_weights()[0], final)
    assert np.abs(during[0] - final).max() > 1e-3


def test_only_a_better_epoch_replaces_the_saved_weights(data, tmp_path):
    model = dense_model()
    path = tmp_path / "best.weights.h5"
    seen: list[dict[str, float]] = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append(dict(logs)))
    averaged = AveragedWeights(
        model, path, data[0], 8, holdout={"x": data[0], "y": data[1]}, best=0.0
    )
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged, watch], verbose=0)
    assert not path.exists()
    assert 0 <= seen[0]["val_accuracy"] <= 1
    averaged.best = math.inf
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged], verbose=0)
    assert path.exists()
    assert averaged.best < math.inf


def test_the_epoch_with_the_least_loss_is_best(data, tmp_path, monkeypatch):
    model, path = dense_model(), tmp_path / "best.weights.h5"
    scores = iter([(1.2, 0.0), (1.3, 0.9), (1.1, 0.1)])
    monkeypatch.setattr(
        model,
        "evaluate",
        lambda *_, **__: dict(zip(("loss", "accuracy"), next(scores), strict=True)),
    )
    saved: list[bytes] = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: saved.append(path.read_bytes()))
    averaged = AveragedWeights(model, path, data[0], 8, holdout={"x": data[0], "y": data[1]})
    model.fit(*data, batch_size=8, epochs=3, callbacks=[averaged, watch], verbose=0)
    first, second, third = saved
    assert first == second != third


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
    for variable in network.non_trainable_variables:
        variable.assign(np.full(3, 1e6))  # what stood there before does not matter
    estimate_statistics(network, np.concatenate(batches), 16)
    mean, variance = moving(network)
    assert np.allclose(mean, batches.mean(axis=(0, 1, 2, 3)), atol=1e-4)
    assert np.allclose(variance, batches.var(axis=(1, 2, 3)).mean(axis=0), rtol=0.01)


def test_momentum_and_weights_stay(network, batches):
    weights = [keras.ops.convert_to_numpy(v).copy() for v in network.trainable_variables]
    estimate_statistics(network, np.concatenate(batches), 16)
    (layer,) = [x for x in network._flatten_layers() if isinstance(x, BatchNormalization)]
    assert layer.momentum == 0.99
    for before, variable in zip(weights, network.trainable_variables, strict=True):
        assert np.array_equal(before, variable)


def test_the_trained_network_keeps_its_own_statistics(network, batches, tmp_path):
    classifier = keras.Sequential(
        [network, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(7)]
    )
    faces, labels = batches[0], np.eye(7, dtype="float32")[np.arange(16) % 7]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.AdamW(use_ema=True), loss, metrics=["accuracy"])
    seen: list[list[np.ndarray]] = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_, **__: seen.append(moving(network))
    )
    averaged = AveragedWeights(
        classifier, tmp_path / "best.weights.h5", faces, 16, {"x": faces, "y": labels}
    )
    classifier.fit(
        faces, labels, batch_size=16, epochs=1, callbacks=[watch, averaged, watch], verbose=0
    )
    before, after = seen
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    classifier.load_weights(tmp_path / "best.weights.h5")
    assert np.abs(moving(network)[0] - before[0]).max() > 1  # saved with those of the batches
