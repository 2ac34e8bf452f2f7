"""Twenty requests are answered as commit f45cf26 answered them, but for boxes and probabilities.

Boxes in photos were recorded anew when photos came to be searched small first, which moved them by
some pixels; probabilities with them, and with the Custom CNN 1.5.0.

``python tests/e2e/test_recorded_answers.py http://localhost:8000`` records a running service whose
default model is the Custom CNN.
"""

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image

RECORDED = Path(__file__).with_name("recorded_answers.json")
MODEL = {"model": "custom_cnn"}
PASSING = {"request_id", "timing_ms", "instance", "detail"}
"""What is another in every answer, and the words of a problem, which may become better ones."""


def astronaut() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def face() -> Image.Image:
    return astronaut().crop((161, 54, 289, 182)).convert("L").resize((48, 48))


def turned() -> bytes:
    """Lies on its side, and says so in its EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(astronaut().rotate(90), "PNG", exif=exif)


def two_faces() -> bytes:
    pair = Image.new("RGB", (900, 400))
    pair.paste(astronaut().crop((100, 0, 400, 300)), (20, 20))
    pair.paste(astronaut().crop((100, 0, 400, 300)).resize((200, 200)), (600, 120))
    return encoded(pair)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tensor() -> dict[str, Any]:
    rows = np.stack([np.asarray(face()), np.asarray(face())[:, ::-1]])
    described = {"name": "faces", "shape": [2, 48, 48], "datatype": "UINT8"}
    return {"inputs": [described | {"data": rows.ravel().tolist()}]}


PNG = {"Content-Type": "image/png"}
EMOTION, BATCH = "/v1/emotion", "/v1/emotion/batch"

REQUESTS: dict[str, Callable[[], dict[str, Any]]] = {
    "a photo in a form": lambda: {
        "url": EMOTION, "params": MODEL, "files": {"file": encoded(astronaut())}
    },
    "a photo as it is": lambda: {
        "url": EMOTION, "params": MODEL, "content": encoded(astronaut()), "headers": PNG
    },
    "a photo in JSON": lambda: {
        "url": EMOTION, "params": MODEL, "json": {"image": base64_of(encoded(astronaut()))}
    },
    "a data URI": lambda: {
        "url": EMOTION, "params": MODEL,
        "json": {"image": "data:image/png;base64," + base64_of(encoded(face()))},
    },
    "a crop": lambda: {"url": EMOTION, "params": MODEL, "content": encoded(face()), "headers": PNG},
    "a crop that is searched": lambda: {
        "url": EMOTION, "params": MODEL | {"detect": "true"}, "content": encoded(face())
    },
    "a photo that is one face": lambda: {
        "url": EMOTION, "params": MODEL | {"detect": "false"}, "content": encoded(astronaut())
    },
    "landmarks": lambda: {
        "url": EMOTION, "params": MODEL | {"landmarks": "true"}, "content": encoded(astronaut())
    },
    "two faces": lambda: {"url": EMOTION, "params": MODEL, "content": two_faces()},
    "the larger of two faces": lambda: {
        "url": EMOTION, "params": MODEL | {"max_faces": 1}, "content": two_faces()
    },
    "a photo on its side": lambda: {"url": EMOTION, "params": MODEL, "content": turned()},
    "a cat": lambda: {
        "url": EMOTION, "params": MODEL, "content": encoded(Image.fromarray(skimage.data.chelsea()))
    },
    "several images, one broken": lambda: {
        "url": BATCH, "params": MODEL,
        "files": [("files", encoded(face())), ("files", b"GIF89a"), ("files", two_faces())],
    },
    "the Open Inference Protocol": lambda: {"url": "/v2/models/custom_cnn/infer", "json": tensor()},
    "DeepFace's request": lambda: {
        "url": "/analyze",
        "json": {
            "img": "data:image/png;base64," + base64_of(encoded(astronaut())),
            "actions": ["emotion"],
        },
    },
    "no image": lambda: {"url": EMOTION, "params": MODEL, "content": b""},
    "text": lambda: {"url": EMOTION, "params": MODEL, "content": b"not an image"},
    "another model": lambda: {
        "url": EMOTION, "params": {"model": "nobody"}, "content": encoded(face())
    },
    "an unknown option": lambda: {
        "url": EMOTION, "params": MODEL | {"detect": "perhaps"}, "content": encoded(face())
    },
    "a tiny image": lambda: {
        "url": EMOTION, "params": MODEL, "content": encoded(face().resize((4, 4)))
    },
}  # fmt: skip


def ask(base_url: str, name: str) -> dict[str, Any]:
    response = httpx.post(**(request := REQUESTS[name]()) | {"url": base_url + request["url"]})
    return {"status": response.status_code, "answer": lasting(response.json())}


def lasting(value: Any) -> Any:
    """The answer without what is another each time."""
    if isinstance(value, list):
        return [lasting(item) for item in value]
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in PASSING}
    return value


def assert_same(value: Any, recorded: Any, where: str) -> None:
    """Numbers may differ by what another processor rounds otherwise."""
    if isinstance(recorded, dict):
        assert set(value) >= set(recorded), where
        for key in recorded:
            assert_same(value[key], recorded[key], f"{where}.{key}")
    elif isinstance(recorded, list):
        assert len(value) == len(recorded), where
        for number, (item, expected) in enumerate(zip(value, recorded, strict=True)):
            assert_same(item, expected, f"{where}[{number}]")
    elif isinstance(recorded, float):
        assert value == pytest.approx(recorded, abs=0.002, rel=0.002), where
    elif isinstance(recorded, int) and re.search(r"\.box\.\w+$", where):
        assert abs(value - recorded) <= 1, where
    else:
        assert value == recorded, where


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_is_as_recorded(server, name: str):
    recorded = json.loads(RECORDED.read_text())[name]
    answer = ask(server.base_url, name)
    assert answer["status"] == recorded["status"]
    assert_same(answer["answer"], recorded["answer"], name)


if __name__ == "__main__":
    answers = {name: ask(sys.argv[1], name) for name in REQUESTS}
    RECORDED.write_text(json.dumps(answers, indent=1) + "\n")
