"""Bytes to an upright RGB image, or a refusal that says why."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np
import pytest
import skimage.data
from costly import other_profile, png, progressive
from ferserve.errors import (
    ImageTooSmall,
    Refusal,
    TooManyPixels,
    UndecodableImage,
    UnsupportedMediaType,
)
from ferserve.images import DecodedImage, decode_image
from ferserve.serving import IMAGE_WORK
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

LIMIT = 1_000_000
PHOTO = Image.fromarray(skimage.data.astronaut()).resize((96, 64))
ORIENTATION = 0x0112


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def difference(decoded: DecodedImage, expected: Image.Image) -> float:
    """Mean absolute difference in grey levels."""
    target = np.asarray(expected.convert("RGB")).astype(int)
    return float(np.abs(decoded.rgb.astype(int) - target).mean())


class TestFormats:
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_is_told_by_content(self, file_format: str) -> None:
        decoded = decode_image(encode(PHOTO, file_format), LIMIT)
        assert (decoded.format, decoded.width, decoded.height) == (file_format, 96, 64)
        assert decoded.exif_orientation == 1
        assert difference(decoded, PHOTO) < 8

    @pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
    def test_lossless_formats_come_back_exactly(self, file_format: str) -> None:
        assert difference(decode_image(encode(PHOTO, file_format), LIMIT), PHOTO) == 0

    def test_pixels_are_contiguous_bytes_that_cannot_be_changed(self) -> None:
        pixels = decode_image(encode(PHOTO, "PNG"), LIMIT).pixels
        assert pixels.dtype == np.uint8
        assert pixels.shape == (64, 96, 3)
        assert pixels.flags.c_contiguous
        assert not pixels.flags.writeable

    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
    def test_grey_stays_grey_and_can_be_had_as_colours(self, file_format: str) -> None:
        decoded = decode_image(encode(PHOTO.convert("L"), file_format), LIMIT)
        assert decoded.pixels.shape == (64, 96)
        for channel in range(3):
            np.testing.assert_array_equal(decoded.rgb[:, :, channel], decoded.pixels)

    def test_grey_over_white_or_with_a_profile_is_coloured(self) -> None:
        faded = Image.merge("LA", [Image.new("L", (16, 16), 0), Image.new("L", (16, 16), 128)])
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        for data in (
            encode(faded, "PNG"),
            encode(PHOTO.convert("L"), "PNG", icc_profile=profile),
        ):
            assert decode_image(data, LIMIT).pixels.ndim == 3

    @pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_an_animation_or_a_stack_of_pages_gives_its_first_frame(self, file_format: str) -> None:
        second = Image.new("RGB", PHOTO.size, "red")
        data = encode(PHOTO, file_format, save_all=True, append_images=[second])
        assert difference(decode_image(data, LIMIT), PHOTO) < 8

    def test_a_multi_picture_photo_is_a_jpeg(self) -> None:
        data = encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)])
        decoded = decode_image(data, LIMIT)
        assert decoded.format == "JPEG"
        assert difference(decoded, PHOTO) < 8


class TestDrafts:
    LARGE = PHOTO.resize((8 * PHOTO.width, 8 * PHOTO.height))

    @pytest.mark.parametrize(
        ("draft_side", "part"), [(96, 8), (97, 4), (200, 2), (400, 1), (5000, 1), (None, 1)]
    )
    def test_a_jpeg_is_decoded_to_a_fraction_but_not_below_what_is_asked_for(
        self, draft_side: int | None, part: int
    ) -> None:
        decoded = decode_image(encode(self.LARGE, "JPEG"), 10 * LIMIT, draft_side)
        assert (decoded.width, decoded.height) == self.LARGE.size
        assert decoded.rgb.shape[:2] == (self.LARGE.height // part, self.LARGE.width // part)

    @pytest.mark.parametrize(("draft_side", "part"), [(96, 8), (97, 7), (5000, 1), (None, 1)])
    @pytest.mark.parametrize("mode", ["RGB", "P", "1", "RGBA", "L", "I;16"])
    def test_so_is_any_other_picture(self, mode: str, draft_side: int | None, part: int) -> None:
        large = self.LARGE.convert("L" if mode == "I;16" else mode)
        shown = large.convert("RGB")
        if mode == "I;16":
            large = Image.fromarray(np.asarray(large).astype(np.uint16) * 257)
        decoded = decode_image(encode(large, "PNG"), 10 * LIMIT, draft_side)
        assert (decoded.width, decoded.height) == large.size
        assert decoded.rgb.shape[:2] == (-(-large.height // part), -(-large.width // part))
        assert difference(decoded, shown.reduce(part)) < 1

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_a_picture_of_very_long_rows_is_shrunk_in_pieces_to_the_same(self, mode: str) -> None:
        picture = Image.fromarray(np.arange(9 * 70_001, dtype=np.uint8).reshape(9, -1))
        picture = picture.convert(mode)
        decoded = decode_image(encode(picture, "PNG", compress_level=1), LIMIT, 64)
        assert difference(decoded, picture.reduce(70_001 // 64)) == 0


class TestModes:
    @pytest.mark.parametrize(
        ("file_format", "mode"),
        [
            ("PNG", "L"),
            ("PNG", "LA"),
            ("PNG", "P"),
            ("PNG", "RGBA"),
            ("JPEG", "L"),
            ("JPEG", "CMYK"),
            ("GIF", "L"),
            ("BMP", "P"),
            ("TIFF", "LA"),
            ("TIFF", "CMYK"),
            ("TIFF", "RGBA"),
            ("WEBP", "RGBA"),
        ],
    )
    def test_every_mode_shows_the_same_picture(self, file_format: str, mode: str) -> None:
        image = PHOTO.convert(mode)
        assert difference(decode_image(encode(image, file_format), LIMIT), image) < 8

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "GIF"])
    def test_one_bit(self, file_format: str) -> None:
        bits = PHOTO.convert("1")
        assert difference(decode_image(encode(bits, file_format), LIMIT), bits) == 0

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    def test_sixteen_bit_grey_keeps_its_white(self, file_format: str) -> None:
        grey = np.asarray(PHOTO.convert("L"))
        data = encode(Image.fromarray(grey.astype(np.uint16) * 257), file_format)
        assert difference(decode_image(data, LIMIT), Image.fromarray(grey)) == 0

    @pytest.mark.parametrize("white", [1.0, 255.0])
    def test_float_grey_may_count_to_1_or_to_255(self, white: float) -> None:
        grey = np.asarray(PHOTO.convert("L"))
        data = encode(Image.fromarray(grey.astype(np.float32) * (white / 255)), "TIFF")
        assert difference(decode_image(data, LIMIT), Image.fromarray(grey)) == 0

    @pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 65_535), (float("nan"), 1)])
    def test_floats_with_no_agreed_white_are_refused(self, low: float, high: float) -> None:
        ramp = np.linspace(0, high, 256, dtype=np.float32).reshape(16, 16)
        ramp[0, 0] = low
        with pytest.raises(UnsupportedMediaType, match=r"float grey from .* is not supported"):
            decode_image(encode(Image.fromarray(ramp), "TIFF"), LIMIT)

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    @pytest.mark.parametrize("bits", [8, 10, 12, 16])
    def test_sixteen_bit_grey_is_scaled_by_the_bits_it_uses(
        self, file_format: str, bits: int
    ) -> None:
        grey = np.asarray(PHOTO.convert("L"))
        stored = np.rint(grey * ((2**bits - 1) / 255)).astype(np.uint16)
        data = encode(Image.fromarray(stored), file_format)
        assert difference(decode_image(data, LIMIT), Image.fromarray(grey)) < 1

    @pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
    def test_transparency_shows_white(self, file_format: str) -> None:
        faded = Image.new("RGBA", (16, 16), (200, 0, 0, 255))
        faded.paste((0, 0, 0, 0), (0, 0, 8, 16))
        rgb = decode_image(encode(faded, file_format, lossless=True), LIMIT).rgb
        assert rgb[8, 2].tolist() == [255, 255, 255]
        assert rgb[8, 12].tolist() == [200, 0, 0]

    def test_half_transparent_is_half_white(self) -> None:
        data = encode(Image.new("LA", (16, 16), (0, 127)), "PNG")
        assert decode_image(data, LIMIT).rgb[0, 0].tolist() == [128, 128, 128]

    @pytest.mark.parametrize("file_format", ["PNG", "GIF"])
    def test_a_transparent_palette_entry_shows_white(self, file_format: str) -> None:
        image = Image.new("P", (16, 16), 0)
        image.putpalette([10, 20, 30, 200, 0, 0])
        image.paste(1, (8, 0, 16, 16))
        rgb = decode_image(encode(image, file_format, transparency=0), LIMIT).rgb
        assert rgb[8, 2].tolist() == [255, 255, 255]
        assert rgb[8, 12].tolist() == [200, 0, 0]


class TestOrientation:
    """A sender's camera says how it was held; boxes count on the upright picture."""

    STORE = {  # noqa: RUF012 - how a camera stores an upright picture under each orientation
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }

    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", STORE)
    def test_is_applied_and_reported(self, file_format: str, orientation: int) -> None:
        turn = self.STORE[orientation]
        stored = PHOTO if turn is None else PHOTO.transpose(turn)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        decoded = decode_image(encode(stored, file_format, exif=exif), LIMIT)
        assert decoded.exif_orientation == orientation
        assert (decoded.width, decoded.height) == PHOTO.size
        assert difference(decoded, PHOTO) < 8

    @pytest.mark.parametrize("orientation", STORE)
    def test_is_applied_to_a_draft_as_well(self, orientation: int) -> None:
        turn = self.STORE[orientation]
        large = PHOTO.resize((8 * PHOTO.width, 8 * PHOTO.height))
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        data = encode(large if turn is None else large.transpose(turn), "JPEG", exif=exif)
        decoded = decode_image(data, 10 * LIMIT, draft_side=max(PHOTO.size))
        assert (decoded.width, decoded.height) == large.size
        assert decoded.rgb.shape == (PHOTO.height, PHOTO.width, 3)
        assert difference(decoded, PHOTO) < 8

    @pytest.mark.parametrize("value", [0, 9, 200])
    def test_a_value_that_means_nothing_counts_as_upright(self, value: int) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = value
        assert decode_image(encode(PHOTO, "JPEG", exif=exif), LIMIT).exif_orientation == 1

    def test_broken_exif_does_not_cost_the_picture(self) -> None:
        decoded = decode_image(encode(PHOTO, "JPEG", exif=b"Exif\0\0not exif at all"), LIMIT)
        assert decoded.exif_orientation == 1
        assert difference(decoded, PHOTO) < 8

    def test_a_turned_picture_keeps_its_transparency(self) -> None:
        image = Image.new("P", (16, 24), 0)
        image.putpalette([10, 20, 30, 200, 0, 0])
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        decoded = decode_image(encode(image, "PNG", transparency=0, exif=exif), LIMIT)
        assert (decoded.width, decoded.height) == (24, 16)
        assert decoded.rgb.min() == 255


def work_of(data: bytes) -> int:
    """What decoding is said to take before it begins."""
    told = []

    def refuse(_count: int, work: int, _doubt: int) -> NoReturn:
        told.append(work)
        raise TooManyPixels("it need not begin")

    with pytest.raises(TooManyPixels):
        decode_image(data, 50 * LIMIT, 1280, refuse)
    return told[0]


class TestWork:
    @pytest.mark.parametrize(
        ("data", "pixels"),
        [
            (encode(PHOTO, "PNG"), 1.6),
            (encode(PHOTO, "WEBP"), 1.5),
            (png(96, 64, 2, 16), 2.6),
            (encode(PHOTO, "PNG", icc_profile=other_profile()), 2.35),
            (encode(PHOTO, "JPEG"), 1.5 / 32),
            (encode(PHOTO, "JPEG", icc_profile=other_profile()), 0.75 + 1.5 / 32),
        ],
        ids=["PNG", "WebP", "16 bits", "profile", "JPEG", "profile of JPEG"],
    )
    def test_is_told_in_pixels_before_decoding(self, data: bytes, pixels: float) -> None:
        assert work_of(data) == int(pixels * 96 * 64)

    def test_of_a_jpeg_grows_with_its_scans(self) -> None:
        assert work_of(progressive(64, 100)) > 10 * work_of(progressive(64, 0))

    def test_of_a_tiff_grows_with_its_strips(self) -> None:
        more = work_of(encode(PHOTO, "TIFF", compression="tiff_lzw", strip_size=1))
        assert more == 96 * 64 + 64 * 320

    def test_of_a_phones_photo_fits_into_its_share_of_a_batch(self) -> None:
        photo = Image.new("RGB", (4032, 3024))
        assert work_of(encode(photo, "JPEG", icc_profile=other_profile())) < IMAGE_WORK


class TestColourProfiles:
    def test_red_and_blue_follow_the_profile(self) -> None:
        # sRGB under another name, with the primaries red and blue swapped.
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        profile = profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
        profile = profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ")
        profile = profile.replace(b"?XYZ", b"bXYZ")
        red, green, blue = PHOTO.split()
        swapped = Image.merge("RGB", (blue, green, red))
        for mode in ("RGB", "RGBA"):
            data = encode(PHOTO.convert(mode), "PNG", icc_profile=profile)
            assert difference(decode_image(data, LIMIT), swapped) < 2

    def test_srgb_pixels_stay_as_they_are(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        decoded = decode_image(encode(PHOTO, "PNG", icc_profile=profile), LIMIT)
        assert difference(decoded, PHOTO) == 0

    @pytest.mark.parametrize("image", [PHOTO, PHOTO.convert("L")], ids=["RGB", "L"])
    def test_a_broken_or_unfitting_profile_is_ignored(self, image: Image.Image) -> None:
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        for profile in (b"no profile", lab):
            decoded = decode_image(encode(image, "PNG", icc_profile=profile), LIMIT)
            assert difference(decoded, image) == 0


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels it does not carry."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"")


class TestLimits:
    def test_the_limit_itself_is_accepted(self) -> None:
        assert decode_image(encode(PHOTO, "PNG"), 96 * 64).width == 96

    def test_one_pixel_more_is_refused_with_the_numbers(self) -> None:
        with pytest.raises(TooManyPixels, match=r"96 x 64 = 6144 pixels.*at most 6143"):
            decode_image(encode(PHOTO, "PNG"), 96 * 64 - 1)

    @pytest.mark.parametrize("side", [5_000, 60_000], ids=["over ours", "over Pillow's"])
    def test_the_header_is_enough_to_refuse(self, side: int) -> None:
        # Were the pixels looked at first, this would be an UndecodableImage: there are none.
        with pytest.raises(TooManyPixels):
            decode_image(png_header(side, side), LIMIT)

    @pytest.mark.parametrize("size", [(7, 100), (100, 7), (1, 1)])
    def test_too_small(self, size: tuple[int, int]) -> None:
        with pytest.raises(ImageTooSmall, match=f"{size[0]} x {size[1]}.*at least 8"):
            decode_image(encode(PHOTO.resize(size), "PNG"), LIMIT)

    def test_eight_pixels_are_enough(self) -> None:
        assert decode_image(encode(PHOTO.resize((8, 8)), "PNG"), LIMIT).height == 8


class TestRefusals:
    @pytest.mark.parametrize(
        "data",
        [b"hello", b"%PDF-1.7 ...", b"BMW builds cars, not pictures", b"<svg></svg>", bytes(100)],
    )
    def test_other_content_is_unsupported(self, data: bytes) -> None:
        with pytest.raises(UnsupportedMediaType, match="JPEG, PNG, WEBP, GIF, BMP, TIFF"):
            decode_image(data, LIMIT)

    def test_nothing(self) -> None:
        with pytest.raises(UndecodableImage, match="empty"):
            decode_image(b"", LIMIT)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_a_truncated_file(self, file_format: str, share: float) -> None:
        data = encode(PHOTO, file_format)
        with pytest.raises(UndecodableImage, match=f"{file_format} file is damaged or truncated"):
            decode_image(data[: int(len(data) * share)], LIMIT)

    def test_a_checksum_error(self) -> None:
        data = bytearray(encode(PHOTO, "PNG"))
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(UndecodableImage):
            decode_image(bytes(data), LIMIT)

    @settings(max_examples=300, deadline=None)
    @given(
        file_format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]),
        changes=st.lists(
            st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12
        ),
    )
    def test_damage_gives_a_picture_or_a_refusal_and_nothing_else(
        self, file_format: str, changes: list[tuple[float, int]]
    ) -> None:
        data = bytearray(encode(PHOTO, file_format))
        for place, value in changes:
            data[int(place * len(data))] = value
        try:
            rgb = decode_image(bytes(data), LIMIT).rgb
        except Refusal:
            return
        assert rgb.shape[0] * rgb.shape[1] <= LIMIT


def test_many_threads_get_each_their_own_picture() -> None:
    pictures = [PHOTO.rotate(30 * turn) for turn in range(12)] * 5
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda p: decode_image(encode(p, "PNG"), LIMIT), pictures))
    assert [difference(d, p) for d, p in zip(decoded, pictures, strict=True)] == [0] * 60
