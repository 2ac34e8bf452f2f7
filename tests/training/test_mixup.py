import numpy as np
import pytest
from ferserve_training.augment import Mixup
from tiny_training import tiny_data


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    (faces, _), _ = tiny_data(32)
    return faces, np.eye(32, dtype=np.float32)  # a class a face tells every face's share


def test_faces_and_labels_are_mixed_in_the_same_shares(batch):
    faces, labels = batch
    mixed_faces, mixed_labels = (np.asarray(x) for x in Mixup(0.4, 0)(*batch, training=True))
    assert mixed_faces.dtype == np.uint8
    expected = np.einsum("ij,jhw->ihw", mixed_labels, faces.astype(float))
    assert np.abs(mixed_faces - expected).max() <= 0.51
    assert np.allclose(mixed_labels.sum(axis=1), 1)
    assert np.abs(mixed_labels - labels).max() > 0.1


def test_every_face_keeps_at_least_half_and_has_a_share_of_its_own(batch):
    _, mixed = Mixup(0.4, 0)(*batch, training=True)
    own = np.diag(np.asarray(mixed))
    assert own.min() >= 0.5
    assert len(np.unique(own)) > 16


@pytest.mark.parametrize("case", ["evaluation", "switched-off", "alpha-0"])
def test_faces_pass_through(batch, case: str):
    mixup = Mixup(0.0 if case == "alpha-0" else 0.4, 0)
    mixup.active.assign(0.0 if case == "switched-off" else 1.0)
    faces, labels = mixup(*batch, training=case != "evaluation")
    assert np.array_equal(np.asarray(faces), batch[0])
    assert np.array_equal(np.asarray(labels), batch[1])
