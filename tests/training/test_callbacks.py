import math

import keras
import numpy as np
import pytest

from training.callbacks import AveragedWeights, CosineSchedule


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


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


@pytest.mark.parametrize(
    ("progress", "rate"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0)],
    ids=["start", "warming-up", "peak", "half-way-down", "end"],
)
def test_learning_rate_rises_then_falls_as_half_a_cosine(progress: float, rate: float):
    schedule = CosineSchedule(peak=1.0, warmup=0.1, total_steps=100)
    assert schedule.learning_rate(progress) == pytest.approx(rate)


def test_schedule_follows_the_steps_without_a_time_limit(data):
    model = dense_model()
    schedule = CosineSchedule(peak=0.1, warmup=0.1, total_steps=16)
    model.fit(*data, batch_size=8, epochs=1, callbacks=[schedule], verbose=0)
    assert schedule.progress() == 0.5
    # Set before the last of eight steps.
    expected = schedule.learning_rate(7 / 16)
    assert float(model.optimizer.learning_rate) == pytest.approx(expected, rel=1e-5)


def test_schedule_follows_the_clock_where_that_is_ahead(data):
    clock = Clock()
    model = dense_model()
    schedule = CosineSchedule(0.1, 0.1, 1000, max_seconds=100, spent_seconds=30, clock=clock)
    model.fit(*data, batch_size=8, epochs=1, callbacks=[schedule], verbose=0)
    clock.now = 40.0
    assert schedule.progress() == pytest.approx(0.7)


def test_run_ends_when_the_time_is_up(data):
    clock = Clock()
    model = dense_model()
    schedule = CosineSchedule(0.1, 0.1, 1000, max_seconds=50, clock=clock)
    tick = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: setattr(clock, "now", clock.now + 10)
    )
    model.fit(*data, batch_size=8, epochs=9, callbacks=[schedule, tick], verbose=0)
    assert int(model.optimizer.iterations) <= 6
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-7)


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
    averaged = AveragedWeights(model, path, data[0], 8, holdout=data, best=math.inf)
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged, watch], verbose=0)
    assert not path.exists()
    assert 0 <= seen[0]["val_accuracy"] <= 1
    averaged.best = 0.0
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged], verbose=0)
    assert path.exists()
    assert averaged.best > 0
