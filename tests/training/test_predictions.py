"""Predictions that are made once for every face."""

import numpy as np
import pytest
from ferserve_training.predictions import BATCH, RememberedPredictions


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 48, 48), np.uint8)


class Counting:
    """Answers with the first pixels of a face, and keeps count of what it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        self.batches.append(len(faces))
        return faces[:, 0, :7].astype(np.float32)


def test_faces_keep_their_order_in_batches(faces: np.ndarray):
    model = Counting()
    rows = RememberedPredictions(model)(faces)
    assert (rows == faces[:, 0, :7]).all()
    assert model.batches == [BATCH] * 9 + [150 - 9 * BATCH]


def test_a_face_is_asked_about_once(faces: np.ndarray):
    model = Counting()
    predict = RememberedPredictions(model)
    predict(faces[:20])
    again = faces[[5, 30, 5, 30, 19]]
    assert (predict(again) == again[:, 0, :7]).all()
    assert sum(model.batches) == 21


def test_no_faces_have_no_rows():
    assert RememberedPredictions(Counting())(np.empty((0, 48, 48), np.uint8)).shape == (0, 7)
