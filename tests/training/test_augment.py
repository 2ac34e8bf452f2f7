import numpy as np
import pytest
from ferserve_training.augment import build_augmentation
from ferserve_training.recipes import Augmentation
from synthetic_fer2013 import face

STILL = Augmentation(flip=False, rotation=0, shift=0, scale=0, brightness=0, contrast=0, erasing=0)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i % 7, rng) for i in range(64)])


def test_faces_pass_through_untouched_outside_training(faces):
    augmented = build_augmentation(Augmentation())(faces, training=False)
    assert np.array_equal(np.asarray(augmented), faces)


def test_without_any_change_the_resampling_is_exact(faces):
    assert np.array_equal(np.asarray(build_augmentation(STILL)(faces, training=True)), faces)


def test_in_training_every_face_is_changed_and_stays_uint8(faces):
    augmented = np.asarray(build_augmentation(Augmentation())(faces, training=True))
    assert augmented.dtype == np.uint8
    assert augmented.shape == faces.shape
    assert (augmented != faces).any(axis=(1, 2)).all()


def test_draws_differ_from_call_to_call(faces):
    augmentation = build_augmentation(Augmentation())
    first, second = (np.asarray(augmentation(faces, training=True)) for _ in range(2))
    assert (first != second).any()


def test_flip_mirrors_about_half_of_the_faces_exactly(faces):
    settings = Augmentation(**(vars(STILL) | {"flip": True}))
    augmented = np.asarray(build_augmentation(settings)(faces, training=True))
    same = (augmented == faces).all(axis=(1, 2))
    mirrored = (augmented == faces[:, :, ::-1]).all(axis=(1, 2))
    assert (same ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_rotation_keeps_the_centre_and_moves_the_corners(faces):
    spot = np.zeros((32, 48, 48), np.uint8)
    spot[:, 23:25, 23:25] = 255
    settings = Augmentation(**(vars(STILL) | {"rotation": 30.0}))
    rotated = np.asarray(build_augmentation(settings)(spot, training=True))
    y, x = np.mgrid[:48, :48]
    mass = rotated.sum(axis=(1, 2), dtype=float)
    assert np.allclose((rotated * y).sum(axis=(1, 2)) / mass, 23.5, atol=0.2)
    assert np.allclose((rotated * x).sum(axis=(1, 2)) / mass, 23.5, atol=0.2)


def test_contrast_is_raised_and_never_lowered(faces):
    settings = Augmentation(**(vars(STILL) | {"contrast": 0.25}))
    augmented = np.asarray(build_augmentation(settings)(faces // 2 + 64, training=True))
    gain = augmented.std(axis=(1, 2)) / (faces // 2).std(axis=(1, 2))
    assert 0.99 < gain.min() < 1.05
    assert 1.15 < gain.max() < 1.27


def test_each_face_draws_its_own_probability_of_a_rectangle(faces):
    settings = Augmentation(**(vars(STILL) | {"erasing": 0.5}))
    augmented = np.asarray(build_augmentation(settings)(np.repeat(faces, 8, axis=0), training=True))
    changed = (augmented != np.repeat(faces, 8, axis=0)).any(axis=(1, 2))
    assert 0.2 < changed.mean() < 0.3
