"""The client's parts that need no service: retries, payloads, addresses."""

import io

import httpx
import numpy as np
import pytest
from ferserve import AsyncClient, Refusal
from ferserve.client import Retries
from ferserve.client.clients import stream_url
from ferserve.client.failures import Attempts, refusal_of_answer, retry_after
from ferserve.images import decode_image
from ferserve.inputs import as_bytes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

BROKEN = [httpx.ReadError("x"), httpx.WriteError("x"), httpx.RemoteProtocolError("x")]
NOT_SENT = [httpx.ConnectError("x"), httpx.ConnectTimeout("x")]
SLOW = [httpx.ReadTimeout("x"), httpx.WriteTimeout("x"), httpx.PoolTimeout("x")]


# Retries


@pytest.mark.parametrize("error", NOT_SENT, ids=repr)
def test_what_was_not_sent_is_sent_again(error):
    assert Attempts(Retries(), repeatable=True).pause_after_error(error) is not None
    assert Attempts(Retries(), repeatable=False).pause_after_error(error) is not None


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_what_may_have_been_carried_out_is_repeated_only_where_that_does_no_harm(error):
    assert Attempts(Retries(), repeatable=True).pause_after_error(error) is not None
    assert Attempts(Retries(), repeatable=False).pause_after_error(error) is None


@pytest.mark.parametrize("error", SLOW, ids=repr)
def test_what_takes_too_long_is_not_repeated(error):
    assert Attempts(Retries(), repeatable=True).pause_after_error(error) is None


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 422, 500, 502, 504])
def test_other_answers_than_429_and_503_are_final(status):
    assert Attempts(Retries()).pause_after_answer(status, {}) is None


@pytest.mark.parametrize("status", [429, 503])
@given(seconds=st.integers(0, 50))
def test_the_service_is_not_asked_before_the_time_it_said(status, seconds):
    attempts = Attempts(Retries(total_seconds=60, longest_pause=5))
    pause = attempts.pause_after_answer(status, {"Retry-After": str(seconds)})
    assert seconds < pause <= seconds + 5


def test_pauses_double_up_to_the_longest():
    attempts = Attempts(Retries(first_pause=1, longest_pause=5))
    for highest in (1, 2, 4, 5, 5):
        assert highest / 2 <= attempts.pause_after_answer(503, {}) <= highest


@given(
    retries=st.builds(
        Retries,
        total_seconds=st.floats(0, 100),
        first_pause=st.floats(0.01, 10),
        longest_pause=st.floats(0.01, 100),
    ),
    said=st.integers(0, 1000),
)
def test_no_pause_leads_past_the_end(retries, said):
    pause = Attempts(retries).pause_after_answer(503, {"Retry-After": str(said)})
    assert pause is None or pause <= retries.total_seconds
    if said > retries.total_seconds:
        assert pause is None


def test_without_seconds_to_wait_none_are_added():
    assert retry_after({"Retry-After": "soon"}) == retry_after({}) == 0


# Payloads


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 3)], ids=["grey", "RGB"])
def test_pixels_arrive_as_they_are(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert (decoded(as_bytes(pixels)) == pixels).all()
    assert (decoded(as_bytes(Image.fromarray(pixels))) == pixels).all()


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pillow_images_arrive_in_their_mode(mode):
    image = Image.new(mode, (12, 9))
    arrived = Image.open(io.BytesIO(as_bytes(image)))
    assert (arrived.mode, arrived.size) == (mode, (12, 9))
    assert decode_image(as_bytes(image), max_pixels=1000).width == 12


def test_a_frame_too_large_for_a_message_becomes_a_jpeg():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    assert decoded(as_bytes(noise, most=400_000)).shape == noise.shape
    assert as_bytes(noise, most=400_000)[:4] == b"\x89PNG"
    assert as_bytes(noise, most=300_000)[:2] == b"\xff\xd8"


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "PA", "RGBa", "La", "I"])
def test_modes_that_no_file_keeps_are_converted(mode):
    assert decoded(as_bytes(Image.new(mode, (16, 16)))).shape[:2] == (16, 16)


def test_files_are_sent_as_they_are(tmp_path, grey_crop):
    path = tmp_path / "face.png"
    path.write_bytes(grey_crop)
    assert as_bytes(path) == as_bytes(str(path)) == as_bytes(grey_crop) == grey_crop


def test_a_photo_that_lies_on_its_side_is_sent_upright():
    image = Image.fromarray(np.zeros((9, 12, 3), np.uint8))
    image.getexif()[0x0112] = 6
    assert decoded(as_bytes(image)).shape == (12, 9, 3)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((9, 12, 3), np.float32),
        np.zeros((9, 12, 4), np.uint8),
        np.zeros((3, 9, 12), np.uint8),
        np.zeros(9, np.uint8),
    ],
    ids=["float", "RGBA", "channels first", "flat"],
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match="uint8"):
        as_bytes(pixels)


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match="list is not an image"):
        as_bytes([1, 2, 3])


# Addresses and problems


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://localhost:8000", "ws://localhost:8000/v1/emotion/stream"),
        ("https://faces.example/api/", "wss://faces.example/api/v1/emotion/stream"),
    ],
)
def test_the_stream_is_where_the_service_is(base, url):
    assert stream_url(base, {}) == url
    assert stream_url(base, {"landmarks": True, "max_faces": 2, "model": None}) == (
        url + "?landmarks=true&max_faces=2"
    )


def test_an_error_page_of_a_proxy_is_a_problem_too():
    problem = refusal_of_answer(502, b"<html>Bad Gateway</html>", {})
    assert (problem.status, problem.code, problem.request_id) == (502, "http_502", "")
    assert "Bad Gateway" in problem.detail


@pytest.mark.parametrize("body", [b"<html>hello</html>", b""], ids=["a page", "nothing"])
async def test_the_answer_of_another_server_is_a_problem_too(body: bytes):
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    async with AsyncClient(transport=transport) as client:
        for ask in (client.models, lambda: client.recognize(b"x"), client.benchmark):
            with pytest.raises(Refusal, match="not the service's own") as refused:
                await ask()
            assert (refused.value.status, refused.value.code) == (200, "http_200")
