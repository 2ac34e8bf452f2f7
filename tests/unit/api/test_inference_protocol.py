"""The Open Inference Protocol V2 over ASGI, in process: documents, tensors, refusals, errors."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from ferserve.api.inference_protocol import InferenceRequest, read_request
from ferserve.errors import InvalidParameter, MalformedRequest
from ferserve.fer2013.labels import EMOTIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import serving
from prometheus_client.parser import text_string_to_metric_families

KEY = "a-key-of-the-first-caller"
MODEL = "/v2/models/first"
OUTPUT = {"name": "probabilities"}


@pytest.fixture
async def client(standin_models) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(standin_models, max_queue=40) as client:
        yield client


def faces(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 48, 48), np.uint8)


def tensor(values: np.ndarray, **changes: object) -> dict:
    whole = {
        "name": "faces",
        "shape": list(values.shape),
        "datatype": "UINT8",
        "data": values.tolist(),
    }
    return whole | changes


def document(values: np.ndarray, **changes: object) -> dict:
    return {"inputs": [tensor(values)]} | changes


def assert_error(response: httpx.Response, status: int, code: str) -> str:
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/json",
    ), response.text
    problem = response.json()
    assert set(problem) == {
        "error", "type", "title", "status", "detail", "instance", "code", "request_id",
    }  # fmt: skip
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem["error"]


# What the server and its models are


async def test_the_server_and_its_models_describe_themselves(client):
    server = (await client.get("/v2")).json()
    assert set(server) == {"name", "version", "extensions"}
    assert (server["name"], server["extensions"]) == ("ferserve", [])
    assert (await client.get(MODEL)).json() == {
        "name": "first",
        "versions": ["0.0.1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "faces", "datatype": "UINT8", "shape": [-1, 48, 48]}],
        "outputs": [
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [-1, 7],
                "parameters": {"labels": "angry,disgust,fear,happy,sad,surprise,neutral"},
            }
        ],
    }


@pytest.mark.parametrize("path", ["", "/ready"])
async def test_a_version_may_be_named(client, path):
    plain = await client.get(f"{MODEL}{path}")
    named = await client.get(f"{MODEL}/versions/0.0.1{path}")
    assert (named.status_code, named.json()) == (200, plain.json())
    error = assert_error(await client.get(f"{MODEL}/versions/2{path}"), 404, "not_found")
    assert "0.0.1" in error


@pytest.mark.parametrize(
    "path", ["", "/ready", "/infer", "/versions/1", "/versions/1/ready", "/versions/1/infer"]
)
async def test_an_unknown_model_is_answered_with_those_there_are(client, path):
    method = "POST" if path.endswith("infer") else "GET"
    response = await client.request(method, f"/v2/models/nobody{path}")
    assert "first, second" in assert_error(response, 404, "not_found")


async def test_health_follows_that_of_the_service(client):
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json()["ready"] is True
    assert (await client.get(f"{MODEL}/ready")).json() == {"name": "first", "ready": True}
    client.app.state.recognizer.begin_drain()
    assert (await client.get("/v2/health/live")).status_code == 200
    for path in ("/v2/health/ready", f"{MODEL}/ready"):
        response = await client.get(path)
        assert_error(response, 503, "not_ready")
        assert int(response.headers["retry-after"]) >= 1


async def test_a_model_whose_worker_died_is_not_ready_and_the_others_are(client):
    await client.app.state.recognizer.served("first").batcher.close()
    assert_error(await client.get(f"{MODEL}/ready"), 503, "not_ready")
    assert_error(await client.get("/v2/health/ready"), 503, "not_ready")
    assert (await client.get("/v2/models/second/ready")).status_code == 200
    assert_error(await client.post(f"{MODEL}/infer", json=document(faces(1))), 503, "not_ready")


# Inference


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_probabilities_are_those_of_the_model(client, count):
    crops = faces(count)
    expected = client.app.state.recognizer.served("first").model.predict(crops)
    response = await client.post(f"{MODEL}/infer", json=document(crops))
    answer = response.json()
    assert response.status_code == 200
    assert set(answer) == {"model_name", "model_version", "outputs"}
    assert (answer["model_name"], answer["model_version"]) == ("first", "0.0.1")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    assert output["shape"] == [count, len(EMOTIONS)]
    probabilities = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["server-timing"].startswith("queue;dur=")


async def test_flat_and_nested_values_mean_the_same(client):
    crops = faces(2)
    nested = await client.post(f"{MODEL}/infer", json=document(crops))
    flat = {"inputs": [tensor(crops, data=crops.ravel().tolist())]}
    response = await client.post(f"{MODEL}/versions/0.0.1/infer", json=flat)
    np.testing.assert_allclose(
        response.json()["outputs"][0]["data"], nested.json()["outputs"][0]["data"], atol=1e-6
    )


async def test_the_id_comes_back(client):
    response = await client.post(f"{MODEL}/infer", json=document(faces(1), id="Größe 48"))
    assert response.json()["id"] == "Größe 48"


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": []},
        {"outputs": [OUTPUT | {"parameters": {"binary_data": True}}]},
        {"parameters": {"binary_data_output": True, "priority": 1, "trace": "on"}},
        {"more": "members of a later protocol"},
    ],
    ids=["no output", "the output by name", "parameters", "unknown members"],
)
async def test_what_changes_nothing_is_ignored(client, changes):
    response = await client.post(f"{MODEL}/infer", json=document(faces(1), **changes))
    assert len(response.json()["outputs"][0]["data"]) == 7


async def test_it_shares_deadlines_and_metrics_with_the_other_routes(client):
    model = client.app.state.recognizer.served("first").model
    whole, released = model.predict, threading.Event()

    def held(crops: np.ndarray) -> np.ndarray:
        assert released.wait(20)
        return whole(crops)

    model.predict = held
    hurry = {"X-Request-Timeout-Ms": "50"}
    late = await client.post(f"{MODEL}/infer", json=document(faces(40)), headers=hurry)
    released.set()
    assert_error(late, 504, "deadline_exceeded")
    assert (await client.post(f"{MODEL}/infer", json=document(faces(3)))).status_code == 200
    page = (await client.get("/metrics")).text
    samples = {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    for code in ("200", "504"):
        labels = frozenset({"POST", "/v2/models/{name}/infer", code})
        assert samples["ferserve_http_requests_total", labels] == 1
    expired = frozenset({"first", "live", "expired"})
    assert samples["ferserve_faces_dropped_total", expired] == 40
    assert samples["ferserve_batch_faces_sum", frozenset({"first", "live"})] >= 3


async def test_more_than_the_queue_has_room_for_is_put_off(standin_models):
    async with serving(standin_models, max_queue=32, inference_workers=1) as client:
        responses = await asyncio.gather(
            *(client.post(f"{MODEL}/infer", json=document(faces(32))) for _ in range(6))
        )
        refused = [response for response in responses if response.status_code != 200]
        assert refused
        for response in refused:
            assert_error(response, 429, "queue_full")
            assert int(response.headers["retry-after"]) >= 1


async def test_one_face_is_taken_however_large_the_network(client, monkeypatch):
    monkeypatch.setattr("ferserve.api.inference_protocol.IMAGE_WORK", 0)
    assert (await client.post(f"{MODEL}/infer", json=document(faces(1)))).status_code == 200
    assert_error(
        await client.post(f"{MODEL}/infer", json=document(faces(2))), 422, "invalid_parameter"
    )


async def test_faces_are_counted_by_emotion_where_the_operator_wants_it(standin_models):
    async with serving(standin_models, metrics_emotions=True) as client:
        await client.post(f"{MODEL}/infer", json=document(faces(5)))
        page = (await client.get("/metrics")).text
    counted = [line for line in page.splitlines() if line.startswith("ferserve_faces_total")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in counted) == 5


# Refusals


ONE = faces(1)
WRONG_TENSORS = {
    "another input": ({"name": "images"}, "inputs: there must be one, 'faces'"),
    "another type": ({"datatype": "FP32"}, "datatype"),
    "a small letter": ({"datatype": "uint8"}, "datatype"),
    "no batch": ({"shape": [48, 48], "data": ONE[0].tolist()}, "shape"),
    "channels": ({"shape": [1, 48, 48, 1]}, "shape"),
    "other sides": ({"shape": [1, 64, 64]}, "shape"),
    "no shape": ({"shape": []}, "shape"),
    "no face": ({"shape": [0, 48, 48], "data": []}, "shape"),
    "less than none": ({"shape": [-1, 48, 48]}, "shape"),
    "too many": ({"shape": [41, 48, 48]}, "at most 40 faces"),
    "far too many": ({"shape": [2**70, 48, 48]}, "at most 40 faces"),
    "fewer values": ({"data": ONE.ravel().tolist()[:-1]}, "data"),
    "more values": ({"data": [*ONE.ravel().tolist(), 0]}, "data"),
    "fewer faces": ({"shape": [2, 48, 48]}, "data"),
    "ragged rows": ({"data": [[[0] * 48] * 47 + [[0] * 47]]}, "data"),
    "half flat": ({"data": [ONE.ravel().tolist()]}, "data"),
    "rows of text": ({"data": [["0" * 48] * 48]}, "data"),
    "no list": ({"data": {"0": 1}}, "data"),
    "a text": ({"data": "0" * 2304}, "data"),
    "no values": ({"data": None}, "data"),
    "over 255": ({"data": [256] * 2304}, "whole numbers from 0 to 255"),
    "negative": ({"data": [-1] * 2304}, "whole numbers from 0 to 255"),
    "huge": ({"data": [10**30] * 2304}, "whole numbers from 0 to 255"),
    "fractions": ({"data": [0.5] * 2304}, "whole numbers from 0 to 255"),
    "words": ({"data": ["1"] * 2304}, "whole numbers from 0 to 255"),
    "nulls": ({"data": [None] * 2304}, "whole numbers from 0 to 255"),
    "truths": ({"data": [True] * 2304}, "whole numbers from 0 to 255"),
    "nested deeper": ({"data": [[0]] * 2304}, "whole numbers from 0 to 255"),
    "shared memory": ({"data": None, "parameters": {"shared_memory_region": "r"}}, "parameters"),
    "binary": ({"data": None, "parameters": {"binary_data_size": 2304}}, "parameters"),
}


@pytest.mark.parametrize(("changes", "says"), WRONG_TENSORS.values(), ids=WRONG_TENSORS)
async def test_a_wrong_tensor_is_refused_and_the_answer_says_why(client, changes, says):
    response = await client.post(f"{MODEL}/infer", json={"inputs": [tensor(ONE, **changes)]})
    assert says in assert_error(response, 422, "invalid_parameter")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": [tensor(ONE), tensor(ONE)]}, "inputs"),
        ({"outputs": [{"name": "logits"}]}, "the only one is 'probabilities'"),
        ({"outputs": [OUTPUT | {"parameters": {"classification": 3}}]}, "classification"),
        ({"outputs": [OUTPUT | {"parameters": {"shared_memory_region": "r"}}]}, "shared_memory"),
    ],
    ids=["no input", "two inputs", "another output", "classification", "shared memory"],
)
async def test_what_the_models_do_not_have_is_refused(client, changes, says):
    response = await client.post(f"{MODEL}/infer", json=document(ONE, **changes))
    assert says in assert_error(response, 422, "invalid_parameter")


BROKEN = {
    "nothing": (b"", "Invalid JSON"),
    "no JSON": (b"{", "Invalid JSON"),
    "no text": (b'{"id": "\xff"}', "Invalid JSON"),
    "a number of 5,000 digits": (b"1" * 5000, "Invalid JSON"),
    "a deep nest": (b"[" * 5000 + b"]" * 5000, "Invalid JSON"),
    "a list": (b"[]", "body"),
    "no inputs": (b"{}", "inputs: Field required"),
    "inputs of another kind": (b'{"inputs": 3}', "inputs"),
    "an input without a name": (b'{"inputs": [{"shape": [1], "datatype": "UINT8"}]}', "inputs.0"),
    "a shape of fractions": (
        b'{"inputs": [{"name": "faces", "shape": [1.0], "datatype": "UINT8"}]}',
        "inputs.0.shape.0",
    ),
    "half a character as id": (json.dumps(document(ONE, id="\ud800")).encode(), "Invalid JSON"),
    "a parameter without a value": (
        json.dumps(document(ONE, parameters={"a": None})).encode(),
        "parameters.a",
    ),
}


@pytest.mark.parametrize(("body", "says"), BROKEN.values(), ids=BROKEN)
async def test_what_is_no_document_of_the_protocol_is_refused(client, body, says):
    response = await client.post(f"{MODEL}/infer", content=body)
    assert says in assert_error(response, 400, "malformed_request")


async def test_forms_that_clients_send_by_default_are_named(client):
    request = {"url": f"{MODEL}/infer", "content": b'{"inputs": []}\x00\x01'}
    binary = await client.post(**request, headers={"Inference-Header-Content-Length": "14"})
    assert "binary_data=False" in assert_error(binary, 415, "unsupported_media_type")
    packed = await client.post(**request, headers={"Content-Encoding": "gzip"})
    assert "compressed" in assert_error(packed, 415, "unsupported_media_type")


async def test_a_large_body_is_refused(standin_models):
    async with serving(standin_models, max_upload_bytes=10_000) as client:
        response = await client.post(f"{MODEL}/infer", json=document(faces(4)))
        assert_error(response, 413, "payload_too_large")


@pytest.mark.parametrize("value", [b"[]", b"{}", b'"a"', b"0"])
def test_more_values_than_the_faces_have_are_counted_before_they_are_made(value, monkeypatch):
    monkeypatch.setattr(InferenceRequest, "model_validate_json", pytest.fail)
    body = b'{"inputs": [' + b",".join([value] * 100_000) + b"]}"
    with pytest.raises(InvalidParameter, match="at most 4 faces"):
        read_request(body, max_faces=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(tensor(ONE), JSON)))},
        optional=dict.fromkeys(("id", "parameters", "outputs"), JSON),
    )
)
def test_whatever_is_sent_the_refusal_is_one_of_two(value):
    with pytest.raises((InvalidParameter, MalformedRequest)):
        read_request(json.dumps(value).encode(), max_faces=4)


# What holds for every path


async def test_errors_of_the_framework_have_the_form_too(client):
    assert_error(await client.get("/v2/nothing"), 404, "not_found")
    assert_error(await client.get(f"{MODEL}/config"), 404, "not_found")
    assert_error(await client.get(f"{MODEL}/infer"), 405, "method_not_allowed")
    timeout = {"X-Request-Timeout-Ms": "soon"}
    response = await client.post(f"{MODEL}/infer", json=document(ONE), headers=timeout)
    assert_error(response, 422, "invalid_parameter")


async def test_errors_of_other_paths_keep_their_form(client):
    for path in ("/v1/models/nobody", "/v22", "/v1/v2"):
        response = await client.get(path)
        assert response.headers["content-type"] == "application/problem+json"
        assert "error" not in response.json()


async def test_keys_and_rates_hold_here_too(standin_models):
    key = {"X-API-Key": KEY}
    async with serving(standin_models, api_keys=KEY, rate_limit="3/year") as client:
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await client.get(path)).status_code == 200
        for path in ("/v2", MODEL, f"{MODEL}/versions/0.0.1/ready"):
            assert (await client.get(path, headers=key)).status_code == 200
        late = await client.post(f"{MODEL}/infer", json=document(ONE), headers=key)
        assert_error(late, 429, "rate_limited")
        refused = await client.post(f"{MODEL}/infer", json=document(ONE))
        assert_error(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"


async def test_the_contract_describes_the_protocol(client):
    paths = (await client.get("/openapi.json")).json()["paths"]
    ours = {path for path in paths if path.startswith("/v2")}
    assert ours == {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(
            f"/v2/models/{{name}}{version}{call}"
            for version in ("", "/versions/{version}")
            for call in ("", "/ready", "/infer")
        ),
    }
    operation = paths["/v2/models/{name}/versions/{version}/infer"]["post"]
    assert {p["name"] for p in operation["parameters"]} == {
        "name", "version", "X-Request-Timeout-Ms",
    }  # fmt: skip
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["inputs"]
    for status, answer in operation["responses"].items():
        assert set(answer["content"]) == {"application/json"}
        if status != "200":
            assert "error" in answer["content"]["application/json"]["schema"]["properties"]
