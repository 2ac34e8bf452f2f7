"""Two replicas of the model, two of the ingress, and ``ferserve serve --engine ray`` over them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from ferserve.batcher import Lane
from ferserve.errors import DeadlineExceeded, NotReady, QueueFull
from in_process import serving
from synthetic_fer2013 import write_zip
from waiting import until
from websockets.sync.client import connect as websocket

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")

import ray_processes
from ferserve.cluster.metrics import ClusterMetrics
from ferserve.cluster.remote import RemoteQueue, connect
from ray import get_runtime_context, serve

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"
MODEL = "model-custom_cnn"
REPLICA = f"ServeReplica:ferserve:{MODEL}"
INGRESS = "ServeReplica:ferserve:ingress"
MAX_UPLOAD_BYTES = 4 * 1024 * 1024
START_UP_SECONDS = 300

SETTINGS = {
    "models_dir": MODELS,
    "models": "custom_cnn",
    "max_upload_bytes": MAX_UPLOAD_BYTES,
    "max_wait_ms": 500,  # so that whoever is killed has something to lose
}
INTO_THE_WAIT = 0.3
"""Seconds after which faces that were just sent wait in the replicas."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_zip(tmp_path_factory.mktemp("data") / "fer2013.zip", train=1, test=3)


@pytest.fixture(scope="module")
def process(ray_machine, free_port, dataset, tmp_path_factory) -> Iterator[subprocess.Popen]:
    """``ferserve serve --engine ray`` on the cluster of the tests."""
    replicas = {"min_replicas": 2, "max_replicas": 2, "replica_cpus": 0.5}
    ingresses = {"min_ingresses": 2, "max_ingresses": 2, "ingress_cpus": 0.5}
    cluster = replicas | ingresses | {"address": get_runtime_context().gcs_address}
    variables = {f"FERSERVE_{key.upper()}": str(value) for key, value in SETTINGS.items()}
    variables |= {f"FERSERVE_CLUSTER_{key.upper()}": str(value) for key, value in cluster.items()}
    log = tmp_path_factory.mktemp("cluster") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferserve", "serve", "--engine", "ray", f"--port={free_port}"],
            cwd=REPOSITORY,
            env=os.environ | variables | {"FERSERVE_DATASET": str(dataset)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        give_up = time.monotonic() + START_UP_SECONDS
        while "ready on http" not in log.read_text():
            if process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the cluster did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def client(process, free_port) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{free_port}", timeout=60) as client:
        yield client


@pytest.fixture
async def queue(client) -> RemoteQueue:
    """What the ingress has of the model, in this process; counts in ``queue.metrics``."""
    handle = serve.get_deployment_handle(MODEL, "ferserve")
    sha256 = client.get("/v1/models/custom_cnn").json()["sha256"]
    metrics = ClusterMetrics("tests", "here")
    model = await connect(handle, sha256, metrics)
    assert model.background_streams == 4  # two replicas of one worker
    model.batcher.metrics = metrics
    model.batcher.start()
    yield model.batcher
    await model.batcher.close()


def without_times(answer: dict) -> dict:
    return {key: answer[key] for key in answer if key not in ("request_id", "timing_ms")}


def assert_same_face(answer: dict, expected: dict) -> None:
    (face,), (expected_face,) = answer["faces"], expected["faces"]
    assert answer["model"] == expected["model"]
    assert face["dominant_emotion"] == expected_face["dominant_emotion"]
    assert face["emotions"] == pytest.approx(expected_face["emotions"], abs=1e-5)


async def in_one_process(method: str, path: str, **request) -> httpx.Response:
    async with serving(**SETTINGS) as client:
        return await client.request(method, path, **request)


async def test_the_astronaut_gets_the_answer_of_a_single_process(client, photo):
    there = client.post("/v1/emotion?landmarks=true", content=photo("astronaut"))
    here = await in_one_process("POST", "/v1/emotion?landmarks=true", content=photo("astronaut"))
    assert there.status_code == here.status_code == 200, there.text
    answer = without_times(there.json())
    assert answer == without_times(here.json())
    assert answer["faces"][0]["dominant_emotion"] == "happy"
    assert "queue;dur=" in there.headers["Server-Timing"]


def test_many_images_are_answered_in_order(client, photo, grey_crop):
    files = [("files", data) for data in (grey_crop, b"no image", photo("chelsea", "JPEG"))]
    items = client.post("/v1/emotion/batch", files=files).json()["items"]
    assert [len(item["result"]["faces"]) if "result" in item else None for item in items] == [
        1,
        None,
        0,
    ]
    assert items[1]["problem"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    ("method", "path", "request_"),
    [
        pytest.param("POST", "/v1/emotion", {"content": b""}, id="empty body"),
        pytest.param("POST", "/v1/emotion", {"content": b"text"}, id="no image"),
        pytest.param("POST", "/v1/emotion", {"json": {"image": "%"}}, id="bad base64"),
        pytest.param(
            "POST", "/v1/emotion", {"content": bytes(MAX_UPLOAD_BYTES + 1)}, id="too large"
        ),
        pytest.param("POST", "/v1/emotion?model=none", {"content": b"x"}, id="unknown model"),
        pytest.param("POST", "/v1/emotion?max_faces=0", {"content": b"x"}, id="bad parameter"),
        pytest.param("GET", "/v1/emotion", {}, id="wrong method"),
        pytest.param("GET", "/nowhere", {}, id="nowhere"),
        pytest.param("GET", "/v1/benchmark/none", {}, id="unknown benchmark"),
        pytest.param("POST", "/v1/benchmark", {"json": {"model": "none"}}, id="bad benchmark"),
    ],
)
async def test_bad_requests_get_the_problems_of_a_single_process(client, method, path, request_):
    there = client.request(method, path, headers={"X-Request-ID": "the-same"}, **request_)
    here = await in_one_process(method, path, headers={"X-Request-ID": "the-same"}, **request_)
    assert there.json() == here.json()
    assert there.status_code == here.status_code >= 400
    rays = {"date", "server"}  # the test of one process has no server in front
    assert {key: there.headers[key] for key in there.headers if key not in rays} == dict(
        here.headers
    )


def test_a_request_id_that_could_forge_a_log_line_is_replaced(client):
    answer = client.get("/nowhere", headers={"X-Request-ID": "a b"})
    (header,) = answer.headers.get_list("X-Request-ID")
    assert header == answer.json()["request_id"] != "a b"


def test_a_request_out_of_time_is_told_so(client, photo):
    headers = {"X-Request-Timeout-Ms": "1"}
    answer = client.post("/v1/emotion", content=photo("astronaut"), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")


def faces(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 48, 48), np.uint8))


async def test_what_a_replica_refuses_is_raised_as_if_it_were_here(queue):
    soon = time.monotonic() + 30
    with pytest.raises(QueueFull, match="of 256 places"):
        await queue.submit(faces(257), soon)
    with pytest.raises(DeadlineExceeded):
        await queue.submit(faces(1), time.monotonic())
    (answer,) = await queue.submit(faces(1), soon)
    assert answer.value.sum() == pytest.approx(1, abs=1e-5)
    assert await queue.submit([], soon) == []


async def test_a_replica_with_another_version_is_never_taken_for_this_one(queue):
    queue._sha256 = "0" * 64
    with pytest.raises(NotReady, match="another version"):
        await queue.submit(faces(3), time.monotonic() + 30)
    page = queue.metrics.render().decode()
    for name in ("retried", "lost"):
        assert f'ferserve_faces_{name}_total{{deployment="tests",lane="live"' in page
    await until(lambda: not queue.healthy)


async def test_background_work_waits_where_live_work_is_refused(queue):
    async def work() -> None:  # 3 of 8 places at a time, in two replicas
        await queue.submit(faces(3), time.monotonic() + 60, Lane.BACKGROUND)

    await asyncio.gather(*(work() for _ in range(20)))


def test_frames_of_a_stream_are_answered(client, free_port, grey_crop):
    with websocket(f"ws://127.0.0.1:{free_port}/v1/emotion/stream") as stream:
        stream.send(grey_crop)
        answer = json.loads(stream.recv(timeout=30))
    assert answer["frame"] == 1
    assert len(answer["faces"]) == 1


def test_a_benchmark_is_known_to_every_ingress(client):
    started = client.post("/v1/benchmark", json={"model": "custom_cnn", "split": "public"})
    assert started.status_code == 202, started.text
    links = started.json()["links"]
    events = client.get(links["events"])
    assert events.headers["content-type"].startswith("text/event-stream")
    assert '"status":"succeeded"' in events.text.replace(" ", "")
    for _ in range(6):  # whichever replica of the ingress is asked
        job = client.get(links["self"])
        assert job.json()["status"] == "succeeded", job.text
    assert client.get(links["report"]).headers["content-type"].startswith("text/html")


def test_metrics_are_those_of_all_replicas(client):
    page = client.get("/metrics").text
    replicas = {
        (labels["deployment"], labels["replica"])
        for labels in map(labels_of, page.splitlines())
        if "replica" in labels
    }
    counts = [deployment for deployment, _ in replicas]
    assert {name: counts.count(name) for name in counts} == {
        "ingress": 2,
        MODEL: 2,
        "benchmarks": 1,
    }
    assert page.count("# TYPE ferserve_batch_faces ") == 1


def labels_of(line: str) -> dict[str, str]:
    inside = line.partition("{")[2].partition("}")[0]
    pairs = (pair.split("=") for pair in inside.split(",") if "=" in pair)
    return {key: value.strip('"') for key, value in pairs}


def metrics(client: httpx.Client) -> str:
    """Waits until both replicas of the ingress have answered the scrape."""
    while True:
        page = client.get("/metrics").text
        if page.count('\nferserve_ready{deployment="ingress"') == 2:
            return page


def value(page: str, name: str) -> float:
    """Sums a metric."""
    lines = (line for line in page.splitlines() if line.startswith(name))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Clients:
    """Some that each send the next face when the last was answered, for as long as the block."""

    NUMBER = 4  # so few that their faces fill no batch, which would then not wait

    def __init__(self, client: httpx.Client, face: bytes) -> None:
        self.answers: list[httpx.Response] = []
        self._client, self._face = client, face
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(self.NUMBER)

    def __enter__(self) -> "Clients":
        self._asking = [self._threads.submit(self._keep_asking) for _ in range(self.NUMBER)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for asking in self._asking:
            asking.result()
        self._threads.shutdown()

    def get(self, more: int) -> None:
        """Waits for so many answers more."""
        enough = len(self.answers) + more
        while len(self.answers) < enough and not all(one.done() for one in self._asking):
            time.sleep(0.01)

    def _keep_asking(self) -> None:
        while not self._over.is_set():
            self.answers.append(self._client.post("/v1/emotion", content=self._face))


def await_replacement(title: str, killed: set[int]) -> None:
    give_up = time.monotonic() + 60
    while len(set(ray_processes.with_title(title)) - killed) < 2:
        assert time.monotonic() < give_up, "the replica was not replaced"
        time.sleep(0.1)


def test_a_killed_replica_costs_nobody_a_wrong_answer(client, grey_crop):
    expected = client.post("/v1/emotion", content=grey_crop).json()
    before = ray_processes.with_title(REPLICA)
    assert len(before) == 2
    with Clients(client, grey_crop) as clients:
        clients.get(8)
        time.sleep(INTO_THE_WAIT)
        os.kill(before[0], signal.SIGKILL)
        clients.get(16)
    for answer in clients.answers:
        if answer.status_code == 200:
            assert_same_face(answer.json(), expected)
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] in ("not_ready", "deadline_exceeded")
            assert (answer.status_code == 504) or "Retry-After" in answer.headers
    lost = sum(answer.status_code == 503 for answer in clients.answers)
    assert value(metrics(client), "ferserve_faces_lost_total") == lost
    assert client.get("/readyz").status_code == 200  # the other replica answered all the while
    await_replacement(REPLICA, {before[0]})


async def test_what_lost_replicas_were_working_on_is_done_by_others(queue):
    soon = time.monotonic() + 60
    (expected,) = await queue.submit(faces(1), soon)
    calls = [asyncio.create_task(queue.submit(faces(1), soon)) for _ in range(4)]
    await asyncio.sleep(INTO_THE_WAIT)
    killed = set(ray_processes.with_title(REPLICA))
    for replica in killed:
        os.kill(replica, signal.SIGKILL)
    for (answer,) in await asyncio.gather(*calls):
        assert np.allclose(answer.value, expected.value, atol=1e-5)
    page = queue.metrics.render().decode()
    assert value(page, "ferserve_faces_retried_total") > 0
    assert value(page, "ferserve_faces_lost_total") == 0
    await asyncio.to_thread(await_replacement, REPLICA, killed)
    await until(lambda: queue.healthy)


def test_a_killed_ingress_is_a_problem_of_the_api(client, grey_crop):
    """Ray's proxy itself answers what the ingress was working on, in our words."""
    killed = ray_processes.with_title(INGRESS)[0]
    with Clients(client, grey_crop) as clients:
        clients.get(8)
        time.sleep(INTO_THE_WAIT)
        os.kill(killed, signal.SIGKILL)
        clients.get(16)
    failed = [answer for answer in clients.answers if answer.status_code != 200]
    assert 1 <= len(failed) <= Clients.NUMBER  # what was under way; the other replica answers
    for answer in failed:
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "Retry-After" in answer.headers
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    await_replacement(INGRESS, {killed})


async def test_sigterm_ends_the_application_and_leaves_the_cluster(process, client, queue):
    assert queue.healthy
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 120) == 0
    assert not ray_processes.with_title("ServeReplica:ferserve")
    answer = client.get("/v1/models")  # Ray's proxy still listens
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    await until(lambda: not queue.healthy)
    with pytest.raises((NotReady, DeadlineExceeded)):
        await queue.submit(faces(1), time.monotonic() + 5)
