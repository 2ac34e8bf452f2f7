import keras
import numpy as np
import pytest
from ferserve_training.train import batches

ROWS = 20


@pytest.fixture
def epochs() -> list[np.ndarray]:
    """Two epochs of the same data: for each row its number as the face has it, then its label."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("other backends take the arrays as they are")
    numbers = np.arange(ROWS)
    faces = np.tile(numbers.astype("uint8")[:, None, None], (1, 48, 48))
    labels = np.tile(numbers.astype("float32")[:, None], (1, 7))
    data = batches((faces, labels), labels, size=8, seed=3)["x"]
    return [
        np.concatenate([np.stack([x[0][:, 0, 0], x[1][:, 0], y[:, 0]]) for x, y in epoch], axis=1)
        for epoch in (data.as_numpy_iterator(), data.as_numpy_iterator())
    ]


def test_an_epoch_has_each_face_once_and_its_own_label_beside_it(epochs):
    for faces, inputs, labels in epochs:
        assert sorted(faces) == list(range(ROWS))
        assert list(faces) == list(inputs) == list(labels)


def test_each_epoch_has_an_order_of_its_own(epochs):
    first, second = epochs
    assert list(first[0]) != list(second[0]) != list(range(ROWS))


def test_without_a_seed_the_order_stays():
    labels = np.arange(ROWS, dtype="float32")[:, None]
    data = batches((labels,), labels, size=8)["x"]
    if keras.config.backend() == "tensorflow":
        data = np.concatenate([y for _, y in data.as_numpy_iterator()])
    assert np.array_equal(np.ravel(data), np.arange(ROWS))


def test_the_pipeline_does_not_tune_itself():
    """A thread that tunes it may keep the next epoch waiting for up to a minute."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("other backends take the arrays as they are")
    labels = np.eye(7, dtype="float32")
    data = batches((labels,), labels, size=8)["x"]
    assert not data.options().autotune.enabled
