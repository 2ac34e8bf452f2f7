"""``POST /analyze``, called as clients of DeepFace's server call it."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from ferserve.fer2013.labels import EMOTIONS

REPOSITORY = Path(__file__).resolve().parents[2]


JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        yield client


def uri(image: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()


@pytest.fixture(scope="module")
def astronaut(photo) -> bytes:
    return photo("astronaut", format="JPEG")


def test_every_form_of_the_request_is_answered_alike(client, astronaut):
    answers = [
        client.post("/analyze", json={"img": uri(astronaut), "actions": ["emotion"]}),
        client.post("/analyze", files={"img": ("me.jpg", astronaut, "image/jpeg")},
                    data={"actions": '["emotion"]', "enforce_detection": "true"}),
        client.post("/analyze", data={"img": uri(astronaut), "actions": "emotion"}),
        client.post("/analyze", files={"img": (None, uri(astronaut))}),
        # DeepFace 0.0.90 to 0.0.93
        client.post("/analyze", json={"img_path": uri(astronaut), "actions": ["emotion"]}),
        client.post("/analyze", data={"img_path": uri(astronaut)}),
        client.post("/analyze", files={"img_path": astronaut}),
        client.post("/analyze", json={"img": "", "img_path": uri(astronaut), "align": True}),
        client.post("/analyze?actions=emotion", files={"img": astronaut},
                    data={"silent": "true", "expand_percentage": "0"}),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
    (face,) = answers[0].json()["results"]
    assert set(face) == {"emotion", "dominant_emotion", "region", "face_confidence"}
    assert list(face["emotion"]) == list(EMOTIONS)
    assert sum(face["emotion"].values()) == pytest.approx(100, abs=1e-3)
    assert face["dominant_emotion"] == "happy"
    assert 80 < face["emotion"]["happy"] <= 100
    assert face["face_confidence"] > 0.85
    region = face["region"]
    assert set(region) == {"x", "y", "w", "h", "left_eye", "right_eye"}
    (ours,) = client.post("/v1/emotion", content=astronaut).json()["faces"]
    assert [region[side] for side in "xywh"] == list(ours["box"].values())
    assert region["x"] < region["right_eye"][0] < region["left_eye"][0] < region["x"] + region["w"]
    for other in answers[1:]:
        assert other.json()["results"][0]["region"] == region
        assert other.json()["results"][0]["emotion"] == pytest.approx(face["emotion"], abs=1e-3)


def test_an_image_without_a_face_is_an_error_or_one_face(client, photo):
    cat = photo("chelsea")
    refused = client.post("/analyze", json={"img": uri(cat)})
    assert refused.status_code == 400
    problem = refused.json()
    assert problem["code"] == "no_face"
    assert problem["error"] == problem["detail"]
    assert "Face could not be detected" in problem["error"]
    answer = client.post("/analyze", json={"img": uri(cat), "enforce_detection": False})
    spent = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert float(spent["total"]) > float(spent["detect"]) > 3, "both looks, the detector's first"
    (face,) = answer.json()["results"]
    assert face["face_confidence"] == 0
    assert face["region"] == {
        "x": 0, "y": 0, "w": 451, "h": 300, "left_eye": None, "right_eye": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        (422, "invalid_parameter", {"json": {"img": "https://example.org/me.jpg"}}),
        (422, "invalid_parameter", {"json": {"img": "/etc/passwd"}}),
        (422, "invalid_parameter", {"json": {"img": ["data:image/png;base64,AAAA"]}}),
        (422, "invalid_parameter", {"files": {"img": (None, "http://169.254.169.254/")}}),
        (422, "invalid_parameter", {"data": {"img": "me.jpg"}}),
        (422, "invalid_parameter", {"json": {"img": "data:,", "actions": ["age"]}}),
        (422, "invalid_parameter", {"json": {"img": "data:,", "enforce_detection": "perhaps"}}),
        (400, "malformed_request", {"json": {"img": "data:image/png;base64,no base64!"}}),
        (400, "malformed_request", {"json": {"actions": ["emotion"]}}),
        (400, "malformed_request", {"json": {"img": "data:,", "img_path": "data:,"}}),
        (422, "invalid_parameter", {"json": {"img_path": "/etc/passwd"}}),
        (400, "malformed_request", {"json": {"img": "data:,", "acctions": ["emotion"]}}),
        (400, "malformed_request", {"data": {"img": "data:,", "align": ["true", "true"]}}),
        (400, "malformed_request", {"content": b'{"img": "data:,", "img": ""}', "headers": JSON}),
        (400, "malformed_request", {"data": {"img": "data:,", "silent": "1"},
                                    "params": {"silent": "0"}}),
        (422, "invalid_parameter", {"data": {"img": "data:,"}, "params": {"actions": "age"}}),
        (400, "malformed_request", {"json": ["data:image/png;base64,AAAA"]}),
        (400, "malformed_request", {"json": {"img": [[]] * 1000}}),
        (400, "malformed_request", {"content": b"{", "headers": JSON}),
        (415, "unsupported_media_type", {"content": b"img"}),
        (415, "unsupported_media_type", {"files": {"img": b"\x00\x01\x02"}}),
        (422, "undecodable_image", {"files": {"img": b"\xff\xd8\xff\xe0 and no more"}}),
        (413, "payload_too_large", {"files": {"img": bytes(5 * 1024 * 1024)}}),
        (405, "method_not_allowed", {"method": "GET"}),
    ],
)  # fmt: skip
def test_what_is_refused_gets_a_problem_with_deepfaces_member(client, status, code, request_):
    response = client.request(**({"method": "POST", "url": "/analyze"} | request_))
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["code"] == code
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text


def test_the_example_of_the_page_runs(client, server, photo, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo("astronaut", format="JPEG"))
    page = (REPOSITORY / "docs" / "deepface.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", example.replace("http://localhost:8000", server.base_url)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout == "happy\n", ran.stderr
