import keras
import numpy as np
import pytest
from ferserve_training.callbacks import checkpoint
from ferserve_training.recipes import CUSTOM_CNN, FineTuning, Recipe
from ferserve_training.schedule import Schedule
from tiny_training import tiny_data, tiny_model, tiny_recipe


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watch(keras.callbacks.Callback):
    """Notes the backbone's kernel and the stage at every epoch's begin."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[np.ndarray] = []
        self.sides: list[int] = []
        self.mixing: list[float] = []

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        network = self.model.network
        self.kernels.append(network.get_layer("backbone").get_weights()[0])
        self.sides.append(network.get_layer("upsampling").training_side)
        self.mixing.append(float(self.model.mixup.active))


def fit(recipe: Recipe, epochs: int, of: int, *callbacks: keras.callbacks.Callback) -> Watch:
    """Fits some epochs of a run: four steps each."""
    watch, schedule = Watch(), Schedule(recipe, total_steps=4 * of)
    first, *others = callbacks or [keras.callbacks.Callback()]
    tiny_model(recipe).fit(
        *tiny_data(),
        batch_size=8,
        epochs=epochs,
        callbacks=[first, schedule, *others, watch],
        verbose=0,
    )
    return watch


@pytest.mark.parametrize(
    ("progress", "rate"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0)],
    ids=["start", "warming-up", "peak", "half-way-down", "end"],
)
def test_learning_rate_rises_then_falls_as_half_a_cosine(progress: float, rate: float):
    schedule = Schedule(tiny_recipe(learning_rate=1.0, warmup=0.1), total_steps=100)
    assert schedule.learning_rate(progress) == pytest.approx(rate)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_learning_rate_stays_where_the_recipe_has_no_cosine(progress: float):
    recipe = tiny_recipe(learning_rate=1.0, warmup=0.0, cosine=False)
    assert Schedule(recipe, total_steps=100).learning_rate(progress) == 1.0


@pytest.mark.parametrize(
    ("progress", "multiple"),
    [(0.0, 0.0), (0.19, 0.0), (0.25, 0.5), (0.3, 1.0), (1.0, 1.0)],
    ids=["start", "head-only", "warming-up", "warm", "end"],
)
def test_backbone_waits_for_the_head_and_then_warms_up(progress: float, multiple: float):
    recipe = tiny_recipe(warmup=0.1, fine_tuning=FineTuning(head_only=0.2))
    schedule = Schedule(recipe, total_steps=100)
    assert schedule.backbone_multiple(progress) == pytest.approx(multiple)


def test_schedule_follows_the_steps_without_a_time_limit():
    recipe = tiny_recipe(warmup=0.1, learning_rate=0.1)
    model, schedule = tiny_model(recipe), Schedule(recipe, total_steps=8)
    model.fit(*tiny_data(), batch_size=8, epochs=1, callbacks=[schedule], verbose=0)
    assert schedule.progress() == 3 / 8
    # Set before the last of four steps.
    expected = schedule.learning_rate(3 / 8)
    assert float(model.optimizer.learning_rate) == pytest.approx(expected, rel=1e-5)


def test_schedule_follows_the_clock_where_that_is_ahead():
    clock = Clock()
    schedule = Schedule(CUSTOM_CNN, 1000, max_seconds=100, spent_seconds=30, clock=clock)
    clock.now = 40.0
    assert schedule.progress() == pytest.approx(0.7)


def test_run_ends_annealed_when_the_time_is_up():
    clock, recipe = Clock(), tiny_recipe()
    model, schedule = tiny_model(recipe), Schedule(recipe, 1000, max_seconds=50, clock=clock)
    tick = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: setattr(clock, "now", clock.now + 10)
    )
    model.fit(*tiny_data(), batch_size=8, epochs=9, callbacks=[schedule, tick], verbose=0)
    assert int(model.optimizer.iterations) <= 6
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-7)


def test_sides_take_turns_and_the_network_is_served_at_the_last():
    recipe = tiny_recipe(sides=(32, 40, 48))
    assert fit(recipe, 6, 6).sides == [32, 32, 40, 40, 48, 48]


def test_a_training_step_really_sees_the_side_of_its_stage():
    recipe = tiny_recipe(sides=(32, 48))
    model, schedule = tiny_model(recipe), Schedule(recipe, total_steps=8)
    upsampling = model.network.get_layer("upsampling")
    seen: list[int] = []
    original = upsampling.call

    def watched(faces, training=None):
        outputs = original(faces, training)
        if training:
            seen.append(outputs.shape[1])
        return outputs

    upsampling.call = watched
    model.fit(*tiny_data(), batch_size=8, epochs=2, callbacks=[schedule], verbose=0)
    assert list(dict.fromkeys(seen)) == [32, 48]
    assert upsampling(np.zeros((1, 48, 48), np.float32)).shape == (1, 48, 48)


def test_faces_are_mixed_until_the_last_tenth():
    assert fit(tiny_recipe(mixup=0.2), 10, 10).mixing == [1.0] * 9 + [0.0]


def test_an_interrupted_run_goes_on_in_the_phase_it_was_in(tmp_path):
    recipe = tiny_recipe(learning_rate=1e-2, fine_tuning=FineTuning(head_only=0.5))
    begun = fit(recipe, 2, 8, checkpoint(tmp_path))
    resumed = fit(recipe, 8, 8, checkpoint(tmp_path))
    assert len(resumed.kernels) == 6  # epochs 3 to 8
    before, *alone, _, _ = resumed.kernels[:5]
    assert np.array_equal(before, begun.kernels[0])
    assert all(np.array_equal(kernel, before) for kernel in alone[:2])
    assert not np.allclose(resumed.kernels[-1], before)


def test_a_run_in_parts_ends_where_one_in_a_piece_does(tmp_path):
    recipe = tiny_recipe(learning_rate=1e-2, fine_tuning=FineTuning(head_only=0.5))
    data = tiny_data(8)  # one batch: shuffling changes nothing

    def weights(*epochs: int) -> np.ndarray:
        folder = tmp_path / str(len(epochs))
        for last in epochs:
            model, schedule = tiny_model(recipe), Schedule(recipe, total_steps=4)
            callbacks = [checkpoint(folder), schedule]
            model.fit(*data, batch_size=8, epochs=last, callbacks=callbacks, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    assert np.allclose(weights(1, 3, 4), weights(4), atol=1e-5)
