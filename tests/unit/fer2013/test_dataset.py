import numpy as np
from ferserve.fer2013.dataset import leak_free_mask, pixel_groups

FACES = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)


def test_equal_faces_share_a_group_in_order_of_first_appearance():
    assert pixel_groups(FACES[[2, 0, 2, 1, 0]]).tolist() == [0, 1, 0, 2, 1]


def test_one_pixel_makes_another_face():
    changed = FACES[0].copy()
    changed[47, 47] ^= 1
    assert pixel_groups(np.stack([FACES[0], changed])).tolist() == [0, 1]


def test_leak_free_faces_are_those_that_training_does_not_hold():
    mask = leak_free_mask(FACES[[0, 1, 2, 3]], FACES[[1, 3, 4]])
    assert mask.tolist() == [True, False, True, False]
