"""What a client of the real server with the real model gets."""

import base64
import io
import math
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image

ASTRONAUT_FACE = (181, 58, 88, 120)


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        yield client


def overlap(box: dict, other: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    x, y, width, height = other
    left, top = max(box["x"], x), max(box["y"], y)
    right = min(box["x"] + box["width"], x + width)
    bottom = min(box["y"] + box["height"], y + height)
    common = max(right - left, 0) * max(bottom - top, 0)
    return common / (box["width"] * box["height"] + width * height - common)


def encoded(image: Image.Image, file_format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def test_the_astronaut_is_happy(client, photo):
    response = client.post("/v1/emotion", files={"file": ("astronaut.png", photo("astronaut"))})
    assert response.status_code == 200
    (face,) = response.json()["faces"]
    assert overlap(face["box"], ASTRONAUT_FACE) > 0.7
    assert face["dominant_emotion"] == "happy"
    assert math.isclose(sum(face["emotions"].values()), 1, abs_tol=1e-5)


def test_clients_may_ask_for_http_2(client, photo):
    offered = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
    for _ in range(2):  # over one connection
        response = client.post("/v1/emotion", content=photo("astronaut"), headers=offered)
        assert len(response.json()["faces"]) == 1


def test_the_three_forms_of_upload_give_the_same_answer(client, photo):
    data = photo("astronaut", format="JPEG")
    answers = [
        client.post("/v1/emotion", files={"file": ("a.jpg", data)}),
        client.post("/v1/emotion", content=data, headers={"Content-Type": "image/jpeg"}),
        client.post("/v1/emotion", json={"image": base64.b64encode(data).decode()}),
    ]
    faces = [answer.json()["faces"] for answer in answers]
    assert len(faces[0]) == 1
    assert faces[0] == faces[1] == faces[2]


def varied_photos() -> list[bytes]:
    """32 photos of various contents, crops, sizes, colours and formats."""
    photos = []
    for index in range(32):
        name = ("astronaut", "astronaut", "chelsea", "coffee")[index % 4]
        image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        width, height = image.size
        image = image.crop((index, index // 2, width - 2 * index, height - index))
        scale = 0.4 + index / 32
        image = image.resize((int(image.width * scale), int(image.height * scale)))
        if index % 5 == 0:
            image = image.convert("L")
        photos.append(encoded(image, ("PNG", "JPEG", "WEBP", "BMP", "TIFF")[index % 5]))
    return photos


def test_32_photos_at_once_are_answered_as_alone(client):
    photos = varied_photos()
    alone = [client.post("/v1/emotion", content=data).json()["faces"] for data in photos]
    with ThreadPoolExecutor(len(photos)) as pool:
        responses = list(pool.map(lambda data: client.post("/v1/emotion", content=data), photos))
    assert [response.status_code for response in responses] == [200] * len(photos)
    assert sum(len(faces) == 1 for faces in alone) >= 12
    for one, response in zip(alone, responses, strict=True):
        other = response.json()["faces"]
        assert [face["box"] for face in one] == [face["box"] for face in other]
        for face, same in zip(one, other, strict=True):
            difference = np.subtract(
                list(face["emotions"].values()), list(same["emotions"].values())
            )
            assert np.abs(difference).max() < 1e-5


def test_the_served_model_is_the_one_of_its_card(client):
    listed = client.get("/v1/models").json()
    assert listed["default"] == "custom_cnn"
    (card,) = [card for card in listed["models"] if card["name"] == "custom_cnn"]
    assert card["metrics"]["private"]["n"] == 3589
    assert card["metrics"]["public"]["n"] == 3589
