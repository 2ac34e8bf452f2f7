"""What becomes of an image before inference, and which are prepared at once, without a thread."""

import io
from time import monotonic

import numpy as np
import pytest
from ferserve.faces import load_face_detector
from ferserve.pool import DecodeMemory
from ferserve.preparation import QUICK_BYTES, Preparer
from ferserve.schemas import Box, EmotionOptions
from ferserve.settings import MEBI
from PIL import Image, ImageCms

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def preparer(standin_models):
    detector = load_face_detector(standin_models / "face_detector.onnx", 640)
    return Preparer(detector, 50_000_000, DecodeMemory(144 * MEBI))


def encoded(side: int, file_format: str = "PNG", **options) -> bytes:
    pixels = np.linspace(0, 255, side * side).astype(np.uint8).reshape(side, side)
    return saved(Image.fromarray(pixels), file_format, **options)


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def profiled_behind_its_pixels(side: int) -> bytes:
    """A PNG whose colour profile stands where only a look at all of the file finds it."""
    data = encoded(side, icc_profile=PROFILE)
    begin = data.index(b"iCCP") - 4
    end = begin + 12 + int.from_bytes(data[begin : begin + 4])
    iend = data.index(b"IEND") - 4
    return data[:begin] + data[end:iend] + data[begin:end] + data[iend:]


def showing_another_size(side: int) -> bytes:
    """A JPEG with a smaller one's header in a segment that decoders skip, and Pillow reads."""
    small, data = encoded(8, "JPEG"), encoded(side, "JPEG")
    header = small[small.index(b"\xff\xc0") :]
    return data[:2] + b"\xff\xf0" + (2 + len(header)).to_bytes(2) + header + data[2:]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("detect", ["auto", "false"])
def test_a_small_image_that_is_one_face_is_quick(preparer, file_format, detect):
    assert preparer.is_quick(encoded(48, file_format), EmotionOptions(detect=detect))


def test_where_a_face_has_to_be_found_nothing_is_quick(preparer):
    assert not preparer.is_quick(encoded(48), EmotionOptions(detect="true"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(65), id="more pixels"),
        pytest.param(encoded(48, "BMP"), id="another format"),
        pytest.param(encoded(48, icc_profile=PROFILE), id="with a colour profile"),
        pytest.param(profiled_behind_its_pixels(48), id="with one behind its pixels"),
        pytest.param(showing_another_size(65), id="that shows another size"),
        pytest.param(encoded(48)[:20], id="damaged"),
        pytest.param(b"", id="empty"),
        pytest.param(encoded(48) + bytes(QUICK_BYTES), id="a large file"),
    ],
)
def test_what_may_take_longer_is_left_to_a_thread(preparer, data):
    assert not preparer.is_quick(data, EmotionOptions())


def test_a_place_that_shrinks_to_nothing_is_looked_at(preparer):
    wide = saved(Image.new("L", (50_000, 100)), "PNG")
    near = [Box(x=2, y=2, width=8, height=8)]
    assert preparer.prepare(wide, EmotionOptions(), 1, monotonic(), near).detector_ran


def test_a_large_jpeg_is_answered_as_if_all_its_pixels_were_decoded(preparer, photo):
    whole = Image.open(io.BytesIO(photo("astronaut", size=(3072, 3072))))
    drafted, complete = (
        preparer.prepare(data, EmotionOptions(), max_faces=1, submitted=monotonic())
        for data in (saved(whole, "JPEG", quality=95), saved(whole, "BMP"))
    )
    assert (drafted.image.width, drafted.image.height) == (3072, 3072)
    (found,), (expected,) = drafted.faces, complete.faces
    for side in ("x", "y", "width", "height"):
        assert getattr(found.box, side) == pytest.approx(getattr(expected.box, side), abs=8)
    for point, other in zip(found.landmarks, expected.landmarks, strict=True):
        assert (point.x, point.y) == pytest.approx((other.x, other.y), abs=8)
    assert np.abs(found.crop.astype(int) - expected.crop).mean() < 2


def test_how_large_a_face_was_is_told_in_the_pixels_its_crop_was_made_of(preparer, photo):
    (found,) = preparer.prepare(
        photo("astronaut", format="JPEG", size=(3072, 3072)), EmotionOptions(), 1, monotonic()
    ).faces
    assert 2 * found.side == pytest.approx(max(found.box.width, found.box.height), abs=2)
