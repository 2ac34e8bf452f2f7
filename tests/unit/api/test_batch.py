"""``POST /v1/emotion/batch``: many images, each with a result or a problem of its own."""

import asyncio
import io
from collections.abc import AsyncIterator

import httpx
import pytest
from ferserve.fer2013.labels import EMOTIONS
from ferserve.inputs import as_bytes
from in_process import serving
from PIL import Image


@pytest.fixture
async def client(standin_models) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(
        standin_models, max_images=8, max_upload_bytes=1000, max_batch_upload_bytes=2**20
    ) as client:
        yield client


def files(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{index}.png", data)) for index, data in enumerate(images)]


def grey(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (48, 48), shade).save(file, "PNG")
    return file.getvalue()


def assert_problem(response: httpx.Response, status: int, code: str) -> dict:
    assert response.headers["content-type"] == "application/problem+json", response.text
    assert (response.status_code, response.json()["code"]) == (status, code)
    return response.json()


async def test_items_come_in_the_order_of_the_files_and_are_answered_as_alone(standin_models):
    async with serving(standin_models) as client:
        shades = [grey(shade) for shade in (0, 90, 180, 255)]
        alone = [(await client.post("/v1/emotion", content=data)).json() for data in shades]
        response = await client.post("/v1/emotion/batch", files=files(*shades))
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == ["request_id", "items"]
    assert answer["request_id"] == response.headers["x-request-id"]
    for item, one in zip(answer["items"], alone, strict=True):
        assert list(item) == ["result"]
        assert list(item["result"]) == ["model", "image", "faces", "timing_ms"]
        emotions = item["result"]["faces"][0]["emotions"]
        assert emotions == pytest.approx(one["faces"][0]["emotions"], abs=1e-5)


async def test_one_bad_image_never_costs_the_others(client, grey_crop):
    bad = {b"text": "unsupported_media_type", grey_crop[:500]: "undecodable_image",
           b"": "undecodable_image"}  # fmt: skip
    response = await client.post("/v1/emotion/batch", files=files(grey_crop, *bad, grey_crop))
    assert response.status_code == 200
    first, *refused, last = response.json()["items"]
    assert len(first["result"]["faces"]) == len(last["result"]["faces"]) == 1
    assert [item["problem"]["code"] for item in refused] == list(bad.values())
    for item in refused:
        assert list(item) == ["problem"]
        assert item["problem"]["request_id"] == response.headers["x-request-id"]
        assert item["problem"]["instance"] == "/v1/emotion/batch"


async def test_images_that_all_are_bad_are_still_answered_one_by_one(client):
    response = await client.post("/v1/emotion/batch", files=files(b"one", b"two"))
    assert response.status_code == 200
    assert [item["problem"]["status"] for item in response.json()["items"]] == [415, 415]


async def test_options_hold_for_all_images(client, grey_crop):
    response = await client.post(
        "/v1/emotion/batch?model=second&detect=true", files=files(grey_crop, grey_crop)
    )
    for item in response.json()["items"]:
        assert item["result"]["model"]["name"] == "second"
    unknown = await client.post("/v1/emotion/batch?model=third", files=files(grey_crop))
    assert_problem(unknown, 422, "unknown_model")
    too_many_faces = await client.post("/v1/emotion/batch?max_faces=33", files=files(grey_crop))
    assert_problem(too_many_faces, 422, "invalid_parameter")


async def test_the_faces_of_all_images_share_batches(standin_models, grey_crop):
    async with serving(standin_models, inference_workers=1, max_wait_ms=1000) as client:
        await client.post("/v1/emotion/batch", files=files(*[grey_crop] * 2))
        metrics = (await client.get("/metrics")).text
    assert 'ferserve_batch_faces_sum{lane="live",model="first"} 2.0' in metrics
    assert 'ferserve_batch_faces_count{lane="live",model="first"} 1.0' in metrics


async def test_more_images_than_the_limit_are_refused(client, grey_crop):
    full = await client.post("/v1/emotion/batch", files=files(*[grey_crop] * 8))
    assert len(full.json()["items"]) == 8
    over = await client.post("/v1/emotion/batch", files=files(*[grey_crop] * 9))
    assert "at most 8" in assert_problem(over, 413, "too_many_images")["detail"]


async def test_images_beyond_the_work_of_a_request_are_refused(client, monkeypatch):
    monkeypatch.setattr("ferserve.recognizer.IMAGE_WORK", 4 * 48 * 48 // 8)
    response = await client.post("/v1/emotion/batch", files=files(*[grey(90)] * 8))
    codes = [item.get("problem", {}).get("code") for item in response.json()["items"]]
    assert codes == 3 * [None] + 5 * ["too_many_images"]


async def test_so_are_those_whose_faces_are_too_many_for_a_large_network(
    standin_models, write_standin, tmp_path
):
    write_standin(tmp_path, "large", multiply_adds=20 * 10**9)
    (tmp_path / "face_detector.onnx").symlink_to(standin_models / "face_detector.onnx")
    async with serving(tmp_path, max_images=8) as client:
        response = await client.post("/v1/emotion/batch", files=files(*[grey(90)] * 8))
        codes = [item.get("problem", {}).get("code") for item in response.json()["items"]]
        assert codes == 2 * [None] + 6 * ["too_many_images"]
        tensor = {"name": "faces", "datatype": "UINT8", "shape": [2, 48, 48]}
        document = {"inputs": [tensor | {"data": 2 * 48 * 48 * [9]}]}
        refused = await client.post("/v2/models/large/infer", json=document)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
        assert refused.json()["detail"] == "a request may have at most 1 faces"


async def test_the_body_has_a_limit_of_its_own(client, photo):
    fits = await client.post("/v1/emotion/batch", files=files(photo("astronaut", size=(99, 99))))
    assert fits.status_code == 200
    over = await client.post("/v1/emotion/batch", files=files(bytes(2**20)))
    assert_problem(over, 413, "payload_too_large")


FORM = "multipart/form-data"
OTHER_FIELD = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("status", "code", "content_type", "content"),
    [
        (400, "malformed_request", f"{FORM}; boundary=x", OTHER_FIELD),
        (400, "malformed_request", f"{FORM}; boundary=x", b"--x"),
        (400, "malformed_request", FORM, b""),
        (415, "unsupported_media_type", "image/png", b"x"),
        (415, "unsupported_media_type", "application/json", b'{"images": []}'),
    ],
    ids=["no files", "cut form", "no boundary", "an image", "JSON"],
)
async def test_a_body_that_is_no_batch_is_refused(client, status, code, content_type, content):
    headers = {"Content-Type": content_type}
    response = await client.post("/v1/emotion/batch", content=content, headers=headers)
    assert_problem(response, status, code)


async def test_a_batch_leaves_room_for_others_in_the_queue(standin_models, photo):
    async with serving(standin_models, max_queue=32, max_images=32) as client:
        data = photo("astronaut", size=(200, 200))
        batch = asyncio.create_task(
            client.post("/v1/emotion/batch", files=files(*[data] * 32), timeout=60)
        )
        await asyncio.sleep(0.05)
        assert (await client.post("/v1/emotion", content=data)).status_code == 200
        assert all("result" in item for item in (await batch).json()["items"])


async def test_the_faces_of_a_batch_do_not_crowd_each_other_out(standin_models, photo):
    crowd = Image.new("RGB", (800, 400))
    person = Image.open(io.BytesIO(photo("astronaut", size=(200, 200))))
    for number in range(8):
        crowd.paste(person, (200 * (number % 4), 200 * (number // 4)))
    async with serving(standin_models, max_queue=8, max_faces=8, max_wait_ms=200) as client:
        response = await client.post("/v1/emotion/batch", files=files(*[as_bytes(crowd)] * 6))
    faces = [len(item["result"]["faces"]) for item in response.json()["items"]]
    assert faces == [8] * 6


async def test_nor_do_those_of_one_face(standin_models, photo):
    pair = Image.new("RGB", (400, 200))
    person = Image.open(io.BytesIO(photo("astronaut", size=(200, 200))))
    pair.paste(person)
    pair.paste(person, (200, 0))
    images = [as_bytes(pair), photo("astronaut", size=(200, 200))] * 5
    async with serving(standin_models, max_queue=2, max_faces=2, max_wait_ms=100) as client:
        response = await client.post("/v1/emotion/batch", files=files(*images))
    assert [len(item["result"]["faces"]) for item in response.json()["items"]] == [2, 1] * 5


async def test_a_batch_of_which_nothing_was_answered_in_time_is_504(standin_models, photo):
    async with serving(standin_models, request_timeout_ms=0.01) as client:
        response = await client.post("/v1/emotion/batch", files=files(*[photo("astronaut")] * 3))
        assert_problem(response, 504, "deadline_exceeded")


async def test_the_documentation_shows_an_emotion_with_all_seven_shares(client):
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    fields = schemas["FaceEmotion"]["properties"]
    (shares,) = fields["emotions"]["examples"]
    assert sum(shares.values()) == pytest.approx(1)
    assert fields["dominant_emotion"]["examples"] == [max(shares, key=shares.get)]
    assert set(shares) == set(EMOTIONS)
