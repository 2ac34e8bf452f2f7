"""Faces as the networks see them, cut out the way FER2013 did."""

from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
from ferserve.crops import crop_face, whole_face
from ferserve.schemas import Box
from numpy.typing import NDArray
from PIL import Image

ASTRONAUT = skimage.data.astronaut()

Pixels = NDArray[np.uint8]


def box(x: int, y: int, width: int, height: int) -> Box:
    return Box(x=x, y=y, width=width, height=height)


def resized(rgb: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


class TestCrop:
    """A square of 1.066 times the box's height around the box's centre."""

    def test_shows_the_square_around_the_box(self) -> None:
        ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)).copy()
        crop = crop_face(ramp, box(80, 60, 40, 90))  # side 95.94 around x = 100
        step = 1.066 * 90 / 48
        expected = 100 - 48 * step / 2 + (np.arange(48) + 0.5) * step - 0.5
        np.testing.assert_allclose(crop[24, 2:-2], expected[2:-2], atol=1)

    def test_grey_is_the_luma_of_bt_601(self) -> None:
        image = np.full((100, 100, 3), (200, 100, 50), np.uint8)
        luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
        assert np.unique(crop_face(image, box(30, 30, 40, 40))).tolist() == [luma]

    def test_is_the_same_at_every_size_of_the_photo(self) -> None:
        doubled = resized(ASTRONAUT, 1024, 1024)
        one = crop_face(ASTRONAUT, box(181, 58, 88, 120)).astype(int)
        two = crop_face(doubled, box(362, 116, 176, 240)).astype(int)
        assert np.abs(one - two).mean() < 2

    def test_a_small_face_is_enlarged_smoothly(self) -> None:
        small = resized(ASTRONAUT, 85, 85)
        crop = crop_face(small, box(30, 10, 15, 20)).astype(int)
        large = crop_face(ASTRONAUT, box(181, 60, 90, 120)).astype(int)
        assert np.corrcoef(crop.ravel(), large.ravel())[0, 1] > 0.9

    @pytest.mark.parametrize(
        ("place", "filled"),
        [
            (box(0, 60, 30, 60), np.s_[:, 0]),
            (box(130, 60, 30, 60), np.s_[:, -1]),
            (box(60, 0, 30, 40), np.s_[0]),
            (box(60, 120, 30, 40), np.s_[-1]),
        ],
        ids=["left", "right", "top", "bottom"],
    )
    def test_outside_the_image_the_edge_is_repeated_not_black(
        self, place: Box, filled: tuple[slice, int]
    ) -> None:
        image = np.full((160, 160, 3), 100, np.uint8)
        image[:4] = image[-4:] = image[:, :4] = image[:, -4:] = 200
        crop = crop_face(image, place)
        assert crop.min() > 80
        assert crop[filled].mean() > 150

    def test_inside_pixels_do_not_depend_on_the_border(self) -> None:
        whole = crop_face(ASTRONAUT, box(181, 58, 88, 120)).astype(int)
        cut = crop_face(np.ascontiguousarray(ASTRONAUT[:, 170:]), box(11, 58, 88, 120))
        assert np.abs(whole[:, 6:] - cut[:, 6:]).max() <= 2
        assert np.ptp(cut[:, :4], axis=1).max() == 0

    def test_a_sliver_costs_no_memory(self) -> None:
        # A square of the box's height would be 10 gigapixels.
        tall = np.full((100_000, 8, 3), 77, np.uint8)
        assert np.unique(crop_face(tall, box(3, 0, 1, 100_000))).tolist() == [77]


class TestWholeFace:
    def test_a_grey_48_by_48_image_comes_back_bit_for_bit(self) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
        np.testing.assert_array_equal(whole_face(np.repeat(grey[:, :, None], 3, axis=2)), grey)
        np.testing.assert_array_equal(whole_face(grey), grey)

    @pytest.mark.parametrize(
        "cut", [whole_face, lambda pixels: crop_face(pixels, box(9, 7, 9, 40))]
    )
    def test_grey_gives_the_same_as_the_colours_it_is_shown_in(
        self, cut: Callable[[Pixels], Pixels]
    ) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (60, 31), dtype=np.uint8)
        np.testing.assert_array_equal(cut(grey), cut(np.repeat(grey[:, :, None], 3, axis=2)))

    def test_a_square_image_is_scaled(self) -> None:
        grey = Image.fromarray(ASTRONAUT).convert("L")
        expected = np.asarray(grey.resize((48, 48), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(whole_face(ASTRONAUT), expected)

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_shorter_side_is_filled_by_its_edges(self, turned: bool) -> None:
        image = np.zeros((96, 48, 3), np.uint8)
        image[:, :24], image[:, 24:] = 60, 180
        face = whole_face(np.ascontiguousarray(image.transpose(1, 0, 2)) if turned else image)
        face = face.T if turned else face
        assert face.shape == (48, 48)
        assert np.unique(face[:, :20]).tolist() == [60]
        assert np.unique(face[:, 28:]).tolist() == [180]

    @pytest.mark.parametrize("shape", [(8, 8), (9, 31), (47, 48), (49, 48), (8, 1_000_000)])
    def test_any_shape_gives_48_by_48(self, shape: tuple[int, int]) -> None:
        assert np.unique(whole_face(np.full((*shape, 3), 9, np.uint8))).tolist() == [9]
