"""``FERSERVE_PRECISION=int8``: the same service, whose convolutions compute in int8."""

from pathlib import Path

import httpx
import pytest
from ferserve.card import Int8Card

INT8 = Path(__file__).resolve().parents[2] / "models" / "int8"


@pytest.fixture(scope="module")
def client(start_server, tmp_path_factory):
    settings = {"precision": "int8", "models": "custom_cnn"}
    log = tmp_path_factory.mktemp("int8") / "log"
    with start_server(log, **settings) as server, httpx.Client(base_url=server.base_url) as client:
        yield client


def test_the_astronaut_is_happy(client, photo):
    (face,) = client.post("/v1/emotion", files={"file": photo("astronaut")}).json()["faces"]
    assert face["dominant_emotion"] == "happy"
    assert sum(face["emotions"].values()) == pytest.approx(1, abs=1e-5)


def test_the_models_say_how_accurate_they_are_in_int8(client):
    (card,) = client.get("/v1/models").json()["models"]
    measured = Int8Card.read(INT8 / "custom_cnn.json")
    assert card["precision"] == "int8"
    assert card["sha256"] == measured.identity()
    assert card["metrics"] == {name: one.model_dump() for name, one in measured.metrics.items()}
