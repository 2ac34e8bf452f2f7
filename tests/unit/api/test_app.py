"""The API over ASGI, in process: forms of upload, options, problems, headers, documentation."""

import asyncio
import base64
import ctypes
import gc
import io
import json
import re
import struct
import tempfile
import threading
import time
import tracemalloc
import weakref
import zlib
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from ferserve.api.app import create_app
from ferserve.api.uploads import decode_base64, read_form
from ferserve.inputs import as_bytes
from ferserve.settings import Settings
from in_process import serving
from PIL import Image
from starlette.requests import Request
from waiting import until

MAX_UPLOAD = 2 * 1024 * 1024


@pytest.fixture
async def client(standin_models) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(standin_models, max_upload_bytes=MAX_UPLOAD) as client:
        yield client


def assert_problem(response: httpx.Response, status: int, code: str) -> dict:
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), response.text
    problem = response.json()
    assert set(problem) == {
        "type", "title", "status", "detail", "instance", "code", "request_id",
    }  # fmt: skip
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["instance"] == response.request.url.raw_path.decode().split("?")[0]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return problem


def scores(response: httpx.Response) -> list[dict]:
    assert response.status_code == 200, response.text
    return response.json()["faces"]


def huge_png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# One image, three forms


async def test_an_answer_has_exactly_the_fields_of_the_contract(client, photo):
    response = await client.post("/v1/emotion", files={"file": photo("astronaut")})
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == ["request_id", "model", "image", "faces", "timing_ms"]
    assert list(answer["model"]) == ["name", "version", "sha256"]
    assert answer["image"] == {
        "width": 512, "height": 512, "format": "PNG", "exif_orientation": 1,
    }  # fmt: skip
    assert list(answer["timing_ms"]) == ["decode", "detect", "queue", "inference", "total"]
    (face,) = answer["faces"]
    assert list(face) == [
        "box", "face_confidence", "dominant_emotion", "confidence", "emotions", "warnings",
    ]  # fmt: skip


async def test_the_three_forms_of_upload_give_the_same_answer(client, photo):
    data = photo("astronaut", format="JPEG")
    encoded = base64.b64encode(data).decode()
    wrapped = base64.encodebytes(data).decode()
    expected = scores(await client.post("/v1/emotion", files={"file": data}))
    assert len(expected) == 1
    others = [
        {"content": data, "headers": {"Content-Type": "image/jpeg"}},
        {"content": data, "headers": {"Content-Type": "image/png"}},
        {"content": data, "headers": {"Content-Type": "application/octet-stream"}},
        {"content": data},
        {"json": {"image": encoded}},
        {"json": {"image": wrapped}},
        {"json": {"image": f"data:image/jpeg;base64,{encoded}"}},
    ]
    for other in others:
        assert scores(await client.post("/v1/emotion", **other)) == expected


async def test_a_large_multipart_upload_touches_no_disk(client, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a temporary file")

    pixels = np.random.default_rng(0).integers(0, 256, (700, 800, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert len(file.getvalue()) > 1024 * 1024
    monkeypatch.setattr(tempfile, "_TemporaryFileWrapper", forbidden)
    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "__init__", forbidden)
    response = await client.post("/v1/emotion", files={"file": file.getvalue()})
    assert response.status_code == 200


# Options


async def test_options_come_with_the_query(client, photo, grey_crop):
    data = photo("astronaut")
    options = {"model": "second", "landmarks": "true", "max_faces": "1"}
    response = await client.post("/v1/emotion", params=options, files={"file": data})
    assert response.json()["model"]["name"] == "second"
    assert len(scores(response)[0]["landmarks"]) == 5
    whole = await client.post("/v1/emotion?detect=false", files={"file": data})
    assert scores(whole)[0]["box"] == {"x": 0, "y": 0, "width": 512, "height": 512}
    undetected = await client.post("/v1/emotion?landmarks=true", files={"file": grey_crop})
    assert scores(undetected)[0]["landmarks"] is None


@pytest.mark.parametrize(
    "query",
    ["detect=maybe", "max_faces=0", "max_faces=1000", "max_faces=few", "min_face_confidence=2",
     "min_face_confidence=nan", "landmarks=perhaps", "modle=first"],
)  # fmt: skip
async def test_a_wrong_option_is_refused_by_name(client, grey_crop, query):
    response = await client.post(f"/v1/emotion?{query}", files={"file": grey_crop})
    problem = assert_problem(response, 422, "invalid_parameter")
    assert problem["detail"].startswith(query.split("=", maxsplit=1)[0] + ": ")


@pytest.mark.parametrize(
    ("path", "file"), [("/v1/emotion", "file"), ("/v1/emotion/batch", "files")]
)
async def test_options_come_as_fields_of_the_form_too(client, photo, path, file):
    async def answer(query: str = "", **fields: object) -> httpx.Response:
        files = {file: photo("astronaut")}
        return await client.post(f"{path}?{query}", data=fields, files=files)

    def of(response: httpx.Response) -> dict:
        assert response.status_code == 200, response.text
        return response.json()["items"][0]["result"] if "batch" in path else response.json()

    seen = of(await answer(model="second", detect="false", landmarks="true"))
    assert seen["model"]["name"] == "second"
    assert seen["faces"][0]["box"]["width"] == 512
    assert "landmarks" in seen["faces"][0]
    mixed = of(await answer("model=second&landmarks=1", detect="false", landmarks="true"))
    assert mixed["faces"] == seen["faces"]
    assert_problem(await answer(detect="maybe"), 422, "invalid_parameter")
    assert_problem(await answer(model="third"), 422, "unknown_model")
    for response, reason in {
        await answer("model=first", model="second"): "model: has one value in the query",
        await answer(modle="second"): "'modle' is an unknown field; the options are: model, ",
        await answer(model=["first", "second"]): "'model' comes twice in the body",
        await answer("model=first&model=second"): "'model' comes twice in the query",
    }.items():
        assert reason in assert_problem(response, 400, "malformed_request")["detail"]


async def test_the_description_has_the_options_of_forms(client):
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path in ("/v1/emotion", "/v1/emotion/batch"):
        body = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert {"model", "detect", "max_faces", "landmarks"} < set(body["properties"])


async def test_an_unknown_model_is_refused_with_those_there_are(client, grey_crop):
    response = await client.post("/v1/emotion?model=third", files={"file": grey_crop})
    assert "first, second" in assert_problem(response, 422, "unknown_model")["detail"]


# Bad uploads


async def post(client: httpx.AsyncClient, content: bytes, content_type: str) -> httpx.Response:
    return await client.post("/v1/emotion", content=content, headers={"Content-Type": content_type})


BOUNDARY = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n'


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "image/jpeg"),
        (b"", "application/json"),
        (b"", BOUNDARY),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b'{"image": 7}', "application/json"),
        (b'{"image": ""}', "application/json"),
        (b'{"image": "a", "more": 1}', "application/json"),
        (b'{"image": "not base64!"}', "application/json"),
        (b'{"image": "\xc3\xa4"}', "application/json"),
        (b'{"image": "data:image/png,raw"}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"anything", "multipart/form-data"),
        (b"anything", BOUNDARY),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut', BOUNDARY),
        (b'--x\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--x--\r\n', BOUNDARY),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\r\n--x--\r\n', BOUNDARY),
        (2 * PART + b"--x--\r\n", BOUNDARY),
    ],
    ids=["empty", "empty JSON", "empty form", "cut JSON", "JSON list", "no image", "a number",
         "an empty image", "an extra field", "bad base64", "not ASCII", "data URI without base64",
         "not UTF-8", "no boundary", "no parts", "cut form", "no file field", "an empty file",
         "two files"],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_refused(client, content, content_type):
    assert_problem(await post(client, content, content_type), 400, "malformed_request")


async def test_a_name_that_cannot_be_encoded_is_refused_too(client):
    twice = rb'{"\ud800": 1, "\ud800": 2}'
    headers = {"Content-Type": "application/json"}
    response = await client.post("/analyze", content=twice, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "path", ["/v1/emotion", "/v1/emotion/batch", "/analyze", "/v1/benchmark",
             "/v2/models/first/infer"],
)  # fmt: skip
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
async def test_a_compressed_body_is_refused_by_name(client, path, coding):
    headers = {"Content-Encoding": coding}
    response = await client.post(path, json={}, headers=headers | (
        {"Content-Type": "multipart/form-data; boundary=x"} if "batch" in path else {}
    ))  # fmt: skip
    assert response.status_code == 415, response.text
    assert f"Content-Encoding: {coding}" in response.json()["detail"]
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("before", "first", "later"),
    [
        (b"This is a message in several parts.\r\n", b"", b""),
        (b"one\r\n--two\r\n\r\nthree\r\n", b"", b""),
        (b"\r\n", b"", b""),
        (b"", b"  ", b""),
        (b"", b"\t", b" \t"),
        (b"preamble\r\n", b" ", b" "),
    ],
)
async def test_preambles_and_blanks_after_a_boundary_are_read(
    client, grey_crop, before, first, later
):
    head = b'Content-Disposition: form-data; name="'
    body = (
        before
        + (b"--x" + first + b"\r\n" + head + b'file"\r\n\r\n' + grey_crop + b"\r\n")
        + (b"--x" + later + b"\r\n" + head + b'model"\r\n\r\nsecond\r\n--x--\r\n')
    )
    response = await post(client, body, BOUNDARY)
    assert response.status_code == 200, response.text
    assert response.json()["model"]["name"] == "second"


async def test_parts_in_base64_are_decoded_and_other_encodings_refused_by_name(client, grey_crop):
    def form(encoding: bytes, content: bytes) -> bytes:
        head = b'--x\r\nContent-Disposition: form-data; name="file"\r\n'
        head += b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n"
        return head + content + b"\r\n--x--\r\n"

    expected = scores(await post(client, grey_crop, "image/png"))
    for encoding, content in {
        b"base64": base64.encodebytes(grey_crop),
        b"BASE64": base64.b64encode(grey_crop),
        b"binary": grey_crop,
    }.items():
        assert scores(await post(client, form(encoding, content), BOUNDARY)) == expected
    refused = await post(client, form(b"quoted-printable", grey_crop), BOUNDARY)
    problem = assert_problem(refused, 415, "unsupported_media_type")
    assert "Content-Transfer-Encoding: quoted-printable" in problem["detail"]


async def test_a_byte_order_mark_before_json_is_passed_over(client, grey_crop):
    encoded = base64.b64encode(grey_crop)
    for path, name, prefix in (
        ("/v1/emotion", b"image", b""),
        ("/analyze", b"img", b"data:image/png;base64,"),
    ):
        body = b'\xef\xbb\xbf{"' + name + b'": "' + prefix + encoded + b'"}'
        headers = {"Content-Type": "application/json"}
        answer = await client.post(path, content=body, headers=headers)
        assert answer.status_code == 200, answer.text


async def test_base64_is_read_in_both_alphabets_and_with_or_without_padding(client, photo):
    data = photo("astronaut", format="JPEG", size=(256, 256))
    data += bytes((1 - len(data)) % 3)  # so that there is padding
    standard = base64.b64encode(data).decode()
    assert "+" in standard
    assert "/" in standard
    assert standard.endswith("=")
    safe = base64.urlsafe_b64encode(data).decode()
    expected = scores(await client.post("/v1/emotion", json={"image": standard}))
    for text in (
        standard.rstrip("="),
        safe,
        safe.rstrip("="),
        f" \n{standard} \n",
        "\r\n  ".join(re.findall(".{1,76}", safe)),
        f"data:image/jpeg;base64, {safe}",
        f"DATA:image/jpeg;BASE64,{standard}",
    ):
        assert scores(await client.post("/v1/emotion", json={"image": text})) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AAAA AAAA", "a blank at 5, where a '+' may have been"),
        ("data:image/png;base64,AA AA", "a blank at 25"),
        ("AAAA\nAA!A", "'!' at 8"),
        ("AA%2BAAA", "'%' at 3"),
        ("AAAA\u00a0AAA", "'\\xa0' at 5"),
        ("AAA=AAAA", "more follows the padding '=' at 4"),
        ("AAAAA", "ends early"),
    ],
)
@pytest.mark.parametrize(("path", "name"), [("/v1/emotion", "image"), ("/analyze", "img")])
async def test_what_is_no_base64_is_told_with_the_place(client, text, reason, path, name):
    if path == "/analyze" and not text.startswith("data:"):
        text, reason = f"data:;base64,{text}", re.sub(
            r"\d+", lambda place: str(int(place[0]) + 13), reason
        )  # fmt: skip
        reason = reason.replace("xa13", "xa0")
    response = await client.post(path, json={name: text})
    assert response.status_code == 400
    assert response.json()["detail"].startswith(f"{name}: not base64: ")
    assert reason in response.json()["detail"]


async def test_half_a_character_in_json_is_refused_without_being_repeated(client):
    body = b'{"img": "data:image/png;base64,AAAA", "actions": ["\\ud800"]}'
    headers = {"Content-Type": "application/json"}
    refused = await client.post("/analyze", content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")


async def test_a_form_that_was_read_leaves_nothing_for_the_collector():
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + bytes(1_000_000)
    body += b"\r\n--x--\r\n"

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", BOUNDARY.encode())]}
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            ((name, content),) = await read_form(Request(scope, receive), 2**21, lambda _: None)
            assert (name, len(content)) == ("file", 1_000_000)
            del content
        assert tracemalloc.get_traced_memory()[0] < 900_000
    finally:
        tracemalloc.stop()
        gc.enable()


async def test_content_decides_not_the_name(client, photo):
    text = {"file": ("portrait.jpg", b"this is a text file", "image/jpeg")}
    response = await client.post("/v1/emotion", files=text)
    assert_problem(response, 415, "unsupported_media_type")
    photo_as_text = {"file": ("notes.txt", photo("astronaut"), "text/plain")}
    assert len(scores(await client.post("/v1/emotion", files=photo_as_text))) == 1


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_another_form_of_body_is_refused_saying_which_there_are(client, content_type):
    response = await post(client, b"x", content_type)
    problem = assert_problem(response, 415, "unsupported_media_type")
    assert "multipart/form-data" in problem["detail"]


async def test_a_truncated_photo_is_refused(client, photo):
    data = photo("astronaut", format="JPEG")
    response = await post(client, data[: len(data) // 2], "image/jpeg")
    assert_problem(response, 422, "undecodable_image")


async def test_a_decompression_bomb_is_refused_by_its_header(client):
    response = await post(client, huge_png_header(30_000, 30_000), "image/png")
    assert_problem(response, 413, "too_many_pixels")


async def test_a_tiny_image_is_refused(client):
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    assert_problem(await post(client, file.getvalue(), "image/png"), 422, "image_too_small")


async def test_the_largest_body_passes_and_one_byte_more_is_refused(client):
    fits = await post(client, b"x" * MAX_UPLOAD, "image/jpeg")
    assert_problem(fits, 415, "unsupported_media_type")
    over = await post(client, b"x" * (MAX_UPLOAD + 1), "image/jpeg")
    assert_problem(over, 413, "payload_too_large")


async def test_a_body_of_undeclared_length_is_read_no_further_than_the_limit(client):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_UPLOAD:
            sent += 65536
            yield bytes(65536)

    response = await client.post("/v1/emotion", content=endless())
    assert_problem(response, 413, "payload_too_large")
    assert sent <= MAX_UPLOAD + 65536


def test_blanks_in_base64_cost_no_memory_of_their_own():
    text = "QUJD" + 1_000_000 * "\n AAAA"
    tracemalloc.start()
    try:
        assert len(decode_base64("image", text)) == 3 + 3_000_000
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text)
    finally:
        tracemalloc.stop()


async def test_an_image_in_json_counts_with_its_copies(standin_models, grey_crop):
    document = {"image": base64.b64encode(grey_crop).decode()}
    body = len(json.dumps(document))
    limits = dict.fromkeys(
        ("max_upload_bytes", "max_batch_upload_bytes", "benchmark_max_upload_bytes"), body
    )
    async with serving(standin_models, **limits, upload_memory_bytes=3 * body) as client:
        # Not 429: there is never room for it.
        assert_problem(await client.post("/v1/emotion", json=document), 413, "payload_too_large")
    async with serving(standin_models, **limits, upload_memory_bytes=5 * body) as client:
        assert (await client.post("/v1/emotion", json=document)).status_code == 200


async def test_so_does_one_in_a_part_in_base64(standin_models):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    encoded = base64.encodebytes(as_bytes(Image.fromarray(noise)))
    head = b'--x\r\nContent-Disposition: form-data; name="file"\r\n'
    head += b"Content-Transfer-Encoding: base64\r\n\r\n"
    body = head + encoded + b"\r\n--x--\r\n"
    limits = dict.fromkeys(
        ("max_upload_bytes", "max_batch_upload_bytes", "benchmark_max_upload_bytes"), len(body)
    )
    async with serving(standin_models, **limits, upload_memory_bytes=3 * len(body)) as client:
        assert_problem(await post(client, body, BOUNDARY), 413, "payload_too_large")
    async with serving(standin_models, **limits, upload_memory_bytes=5 * len(body)) as client:
        assert (await post(client, body, BOUNDARY)).status_code == 200


# Overload and time


async def test_uploads_together_have_a_limit_and_give_back_what_they_took(
    standin_models, grey_crop
):
    limits = {
        "max_upload_bytes": 4000,
        "max_batch_upload_bytes": 4000,
        "benchmark_max_upload_bytes": 2000,
        "upload_memory_bytes": 5000,
    }
    async with serving(standin_models, **limits) as client:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield bytes(3500)
            begun.set()
            await go_on.wait()

        slow = asyncio.create_task(client.post("/v1/emotion", content=slowly()))
        await begun.wait()
        for path in ("/v1/emotion", "/v1/emotion/batch"):
            field = "files" if path.endswith("batch") else "file"
            refused = await client.post(path, files={field: grey_crop})
            assert "uploads" in assert_problem(refused, 429, "queue_full")["detail"]
        go_on.set()
        assert_problem(await slow, 415, "unsupported_media_type")
        for _ in range(3):
            assert (await client.post("/v1/emotion", content=grey_crop)).status_code == 200


async def test_an_upload_that_takes_too_long_is_ended(client, monkeypatch):
    monkeypatch.setattr("ferserve.api.uploads.UPLOAD_SECONDS", 0.01)

    async def forever() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    response = await client.post("/v1/emotion", content=forever())
    assert_problem(response, 504, "deadline_exceeded")


async def test_a_deadline_that_cannot_be_kept_is_504(standin_models, photo):
    async with serving(standin_models, request_timeout_ms=0.01) as client:
        response = await client.post("/v1/emotion", files={"file": photo("astronaut")})
        assert_problem(response, 504, "deadline_exceeded")


@pytest.mark.parametrize("path", ["/v1/emotion", "/v1/emotion/batch"])
async def test_a_request_can_shorten_its_deadline(client, photo, path):
    field = "files" if path.endswith("batch") else "file"

    async def answer(milliseconds: str) -> httpx.Response:
        headers = {"X-Request-Timeout-Ms": milliseconds}
        return await client.post(path, files={field: photo("astronaut")}, headers=headers)

    assert_problem(await answer("1"), 504, "deadline_exceeded")
    assert (await answer("9" * 400)).status_code == 200
    for bad in ("0", "-1", "1.5", "soon", "nan", "", "9" * 5000):
        problem = assert_problem(await answer(bad), 422, "invalid_parameter")
        assert problem["detail"].startswith("X-Request-Timeout-Ms: ")


async def test_a_deepface_client_can_shorten_its_deadline(client, photo):
    hurry = {"X-Request-Timeout-Ms": "1"}
    response = await client.post("/analyze", files={"img": photo("astronaut")}, headers=hurry)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")


async def test_no_request_can_lengthen_its_deadline(standin_models, photo):
    async with serving(standin_models, request_timeout_ms=0.01) as client:
        headers = {"X-Request-Timeout-Ms": "60000"}
        response = await client.post("/v1/emotion", content=photo("astronaut"), headers=headers)
        assert_problem(response, 504, "deadline_exceeded")


async def test_over_the_limit_is_429_with_a_time_to_retry(standin_models, photo):
    async with serving(standin_models, max_queue=2, max_faces=2) as client:
        data = photo("astronaut")
        responses = await asyncio.gather(
            *(client.post("/v1/emotion", content=data) for _ in range(12))
        )
        refused = [response for response in responses if response.status_code != 200]
        assert refused
        for response in refused:
            assert_problem(response, 429, "queue_full")
            assert int(response.headers["retry-after"]) >= 1
        assert (await client.post("/v1/emotion", content=data)).status_code == 200


async def test_a_fault_of_ours_is_500_without_its_traceback_but_with_it_in_the_log(
    standin_models, photo, caplog
):
    app = create_app(Settings(models_dir=standin_models))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        app.state.recognizer._preparer._detector = None
        response = await client.post(
            "/v1/emotion", content=photo("astronaut"), headers={"X-Request-ID": "abc"}
        )
    problem = assert_problem(response, 500, "internal_error")
    assert problem["request_id"] == "abc"
    assert "NoneType" not in response.text
    assert "'NoneType' object has no attribute 'detect'" in caplog.text


# Headers


async def test_a_line_break_in_the_path_forges_no_line_in_the_log(client, caplog):
    with caplog.at_level("INFO", "ferserve"):
        await client.get("/one%0AERROR forged")
    assert "/one%0AERROR%20forged 404" in caplog.text


async def test_a_sane_request_id_is_kept_and_another_replaced(client):
    kept = await client.get("/livez", headers={"X-Request-ID": "trace-1:2.3_4"})
    assert kept.headers["x-request-id"] == "trace-1:2.3_4"
    for bad in ("", "two words", "x" * 129, "new\tline", "ünïcode".encode()):
        replaced = await client.get("/livez", headers={"X-Request-ID": bad})
        assert len(replaced.headers["x-request-id"]) == 32
    assert (await client.get("/livez")).headers["x-request-id"] != replaced.headers["x-request-id"]


async def test_the_browser_is_told_to_load_nothing_from_elsewhere(client):
    for path in ("/docs", "/livez", "/nowhere"):
        policy = (await client.get(path)).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy


async def test_paths_and_methods_that_are_not_there_are_problems(client):
    assert_problem(await client.get("/nowhere"), 404, "not_found")
    broken_line = await client.get("/two%0Alines%20")
    assert assert_problem(broken_line, 404, "not_found")["instance"] == "/two%0Alines%20"
    wrong = await client.get("/v1/emotion")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    for path, methods in {
        "/v1/benchmark": "GET, HEAD, POST",
        "/v1/benchmark/none": "GET, HEAD, DELETE",
        "/livez": "GET, HEAD",
        "/openapi.json": "GET, HEAD",
        "/static/style.css": "GET, HEAD",
    }.items():
        assert (await client.put(path)).headers["allow"] == methods


async def test_every_get_answers_head_with_the_same_headers_and_no_body(client):
    described = (await client.get("/openapi.json")).json()["paths"]
    pages = ["/", "/docs", "/redoc", "/openapi.json", "/static/icon.svg"]
    for path in pages + [path for path, methods in described.items() if "get" in methods]:
        path = path.replace("{name}", "first").replace("{version}", "0.0.1")
        path = path.replace("{job_id}", "none")
        got, head = await client.get(path), await client.head(path)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        varying = {"x-request-id", "content-length"}
        assert set(head.headers) == set(got.headers)
        for name in set(got.headers) - varying:
            assert head.headers[name] == got.headers[name]
    assert "head" not in described["/livez"]
    metrics = (await client.get("/metrics")).text
    assert 'method="HEAD",route="/v1/models/{name}"' in metrics
    refused = await client.head("/v1/emotion")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_slash_at_the_end_of_a_path_changes_nothing(client, grey_crop):
    answer = await client.post("/v1/emotion/", params={"model": "second"}, content=grey_crop)
    assert answer.json()["model"]["name"] == "second"
    batch = await client.post("/v1/emotion/batch/", files={"files": grey_crop})
    assert len(batch.json()["items"]) == 1
    for path in ("/v1/models/", "/docs/", "/livez/", "/v1/models/first/"):
        assert (await client.get(path)).status_code == 200
    missing = await client.get("/nowhere/")
    assert missing.json()["code"] == "not_found"


# Models and health


async def test_the_models_are_listed_with_their_cards(client):
    listed = (await client.get("/v1/models")).json()
    assert listed["default"] == "first"
    assert [card["name"] for card in listed["models"]] == ["first", "second"]
    assert listed["models"][0]["metrics"]["private"]["accuracy"] == 0.125
    assert (await client.get("/v1/models/second")).json() == listed["models"][1]
    missing = await client.get("/v1/models/third")
    assert "first, second" in assert_problem(missing, 404, "not_found")["detail"]


async def test_models_and_default_can_be_chosen(standin_models):
    async with serving(standin_models, models=("second", "first")) as client:
        assert (await client.get("/v1/models")).json()["default"] == "second"
    async with serving(standin_models, default_model="second") as client:
        assert (await client.get("/v1/models")).json()["default"] == "second"


async def test_a_closed_application_leaves_memory(standin_models, grey_crop):
    async with serving(standin_models, api_keys=16 * "k") as client:
        client.headers["X-API-Key"] = 16 * "k"
        assert (await client.get("/docs")).status_code == 200
        assert (await client.post("/v1/emotion", content=grey_crop)).status_code == 200
        app = weakref.ref(client.app)
    del client
    gc.collect()
    assert app() is None


async def test_live_is_not_yet_ready(standin_models, grey_crop):
    app = create_app(Settings(models_dir=standin_models))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/livez")).status_code == 200
        for response in (
            await client.get("/readyz"),
            await client.post("/v1/emotion", content=grey_crop),
        ):
            assert_problem(response, 503, "not_ready")
            assert int(response.headers["retry-after"]) >= 1
        async with app.router.lifespan_context(app):
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            app.state.recognizer.begin_drain()
            assert_problem(await client.get("/readyz"), 503, "not_ready")
            assert (await client.post("/v1/emotion", content=grey_crop)).status_code == 200


def kill(thread: threading.Thread) -> None:
    """Ends a thread as the interpreter can: with an exception between two of its instructions."""
    exception = ctypes.py_object(SystemExit)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), exception) == 1


async def test_a_worker_killed_in_the_middle_of_a_batch_is_seen_and_replaced(
    standin_models, grey_crop, monkeypatch, caplog
):
    monkeypatch.setattr("ferserve.batcher.RESTART_SECONDS", 3)
    settings = Settings(models_dir=standin_models, inference_workers=1, request_timeout_ms=8000)
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    in_a_batch = threading.Event()

    def stuck(faces):
        in_a_batch.set()
        while True:
            time.sleep(0.001)

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        served = app.state.recognizer.served("first")
        whole, served.model.predict = served.model.predict, stuck
        started = time.monotonic()
        requests = [
            asyncio.create_task(client.post("/v1/emotion", content=grey_crop)) for _ in range(6)
        ]
        assert await asyncio.to_thread(in_a_batch.wait, 10)
        await until(lambda: not app.state.recognizer._pool.under_way)
        (worker,) = [thread for thread in threading.enumerate() if thread.name == "first-0"]
        kill(worker)
        served.model.predict = whole
        for response in await asyncio.gather(*requests):
            assert_problem(response, 503, "not_ready")
        assert time.monotonic() - started < settings.request_timeout_ms / 1000
        problem = assert_problem(await client.get("/readyz"), 503, "not_ready")
        assert "first" in problem["detail"]
        assert (await client.get("/livez")).status_code == 200
        other = await client.post("/v1/emotion?model=second", content=grey_crop)
        assert other.status_code == 200
        await until(lambda: app.state.recognizer.not_ready_reason is None)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/v1/emotion", content=grey_crop)).status_code == 200
        metrics = (await client.get("/metrics")).text
    assert 'ferserve_worker_deaths_total{model="first"} 1.0' in metrics
    assert "a worker died: first-0" in caplog.text
    assert "the worker first-0 was restarted" in caplog.text


async def test_a_failed_inference_costs_only_its_own_request(client, grey_crop):
    model = client.app.state.recognizer.served("first").model
    whole, model.predict = model.predict, lambda faces: whole(faces[:, 1:])
    failed = await client.post("/v1/emotion", content=grey_crop)
    assert_problem(failed, 500, "internal_error")
    model.predict = whole
    assert (await client.post("/v1/emotion", content=grey_crop)).status_code == 200
    assert (await client.get("/readyz")).status_code == 200


# Documentation


async def test_the_contract_describes_bodies_answers_and_every_problem(client):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/emotion"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "multipart/form-data", "image/*", "application/octet-stream", "application/json",
    }  # fmt: skip
    assert [parameter["name"] for parameter in operation["parameters"]] == [
        "model", "max_faces", "min_face_confidence", "landmarks", "detect", "X-Request-Timeout-Ms",
    ]  # fmt: skip
    codes = {
        code: example["value"]["status"]
        for response in operation["responses"].values()
        for code, example in response["content"]
        .get("application/problem+json", {})
        .get("examples", {})
        .items()
    }
    assert codes == {
        "malformed_request": 400,
        "unauthorized": 401,
        "forbidden_origin": 403,
        "payload_too_large": 413,
        "too_many_pixels": 413,
        "unsupported_media_type": 415,
        "undecodable_image": 422,
        "image_too_small": 422,
        "unknown_model": 422,
        "invalid_parameter": 422,
        "queue_full": 429,
        "rate_limited": 429,
        "internal_error": 500,
        "not_ready": 503,
        "deadline_exceeded": 504,
    }
    assert "HTTPValidationError" not in json.dumps(document)


async def test_the_start_page_is_the_demo_and_leads_to_the_documentation(client):
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert 'href="docs"' in response.text
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy.replace("'wasm-unsafe-eval'", "")  # WebAssembly alone
    assert "/" not in (await client.get("/openapi.json")).json()["paths"]


async def test_the_pages_files_are_there_and_asked_for_each_time(client):
    page = (await client.get("/")).text
    files = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    assert len(files) >= 5
    for file in files:
        response = await client.get(f"/{file}")
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-cache"
        headers = {"If-None-Match": response.headers["etag"]}
        assert (await client.get(f"/{file}", headers=headers)).status_code == 304
    assert_problem(await client.get("/static/nothing.js"), 404, "not_found")
    assert (await client.get("/static/")).status_code == 404
    assert (await client.get("/static/..%2findex.html")).status_code == 404
