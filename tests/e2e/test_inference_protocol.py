"""The Open Inference Protocol, asked by NVIDIA's client of a real server process."""

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

MODEL = "custom_cnn"


@pytest.fixture(scope="module")
def client(server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.base_url.removeprefix("http://")) as client:
        yield client


def as_input(faces: np.ndarray, *, binary_data: bool = False) -> InferInput:
    tensor = InferInput("faces", list(faces.shape), "UINT8")
    tensor.set_data_from_numpy(faces, binary_data=binary_data)
    return tensor


def test_the_client_finds_the_server_and_its_models(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.get_server_metadata()["name"] == "ferserve"
    metadata = client.get_model_metadata(MODEL)
    (version,) = metadata["versions"]
    assert client.is_model_ready(MODEL, version)
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready(MODEL, "0")
    assert metadata["inputs"] == [{"name": "faces", "datatype": "UINT8", "shape": [-1, 48, 48]}]


@pytest.mark.parametrize(
    "outputs",
    [[InferRequestedOutput("probabilities", binary_data=False)], None],
    ids=["JSON", "as the client would have it"],
)
def test_the_raw_model_says_of_a_face_what_the_service_says_of_its_image(
    client, server, grey_crop, outputs
):
    face = np.asarray(Image.open(io.BytesIO(grey_crop)))
    faces = np.stack([face, face[:, ::-1], np.zeros_like(face)])
    result = client.infer(MODEL, [as_input(faces)], outputs=outputs, request_id="42")
    assert result.get_response()["id"] == "42"
    probabilities = result.as_numpy("probabilities")
    assert (probabilities.shape, probabilities.dtype) == ((3, 7), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    (output,) = client.get_model_metadata(MODEL)["outputs"]
    labels = output["parameters"]["labels"].split(",")
    response = httpx.post(f"{server.base_url}/v1/emotion?model={MODEL}", content=grey_crop)
    (seen,) = response.json()["faces"]
    expected = [seen["emotions"][label] for label in labels]
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)


def test_the_client_shows_what_was_wrong(client):
    face = np.zeros((1, 48, 48), np.uint8)
    with pytest.raises(InferenceServerException, match="there is no model 'nobody'"):
        client.infer("nobody", [as_input(face)])
    with pytest.raises(InferenceServerException, match="shape: must be") as wrong_shape:
        client.infer(MODEL, [as_input(np.zeros((1, 64, 64), np.uint8))])
    assert wrong_shape.value.status() == "422"
    with pytest.raises(InferenceServerException, match="binary_data=False"):
        client.infer(MODEL, [as_input(face, binary_data=True)])
