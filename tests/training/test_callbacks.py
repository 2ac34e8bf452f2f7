import math

import keras
import numpy as np
import pytest
from ferserve_training.callbacks import AveragedWeights, Checkpoint


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
    averaged = AveragedWeights(model, path, data[0], 8, holdout=data, best=math.inf)
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged, watch], verbose=0)
    assert not path.exists()
    assert 0 <= seen[0]["val_accuracy"] <= 1
    averaged.best = 0.0
    model.fit(*data, batch_size=8, epochs=1, callbacks=[averaged], verbose=0)
    assert path.exists()
    assert averaged.best > 0


def test_a_checkpoint_is_written_once_in_an_interval_and_at_the_end(data, tmp_path):
    clock = iter([0.0, 0.0, 30.0, 60.0, 60.0, 90.0, 91.0])  # read twice where it saves
    saved: list[int] = []

    class Watched(Checkpoint):
        def _save_model(self) -> None:
            saved.append(self._current_epoch)
            super()._save_model()

    model = dense_model()
    checkpoint = Watched(tmp_path, interval=60.0, clock=lambda: next(clock))
    model.fit(*data, batch_size=8, epochs=5, callbacks=[checkpoint], verbose=0)
    assert saved == [1, 3, 5]
    assert (tmp_path / "latest.weights.h5").exists()
