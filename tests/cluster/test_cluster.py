"""``ferserve serve --engine ray``: two replicas of the service, and one for benchmarks."""

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
from ferserve.errors import NotReady
from in_process import serving
from prometheus_client.parser import text_string_to_metric_families
from synthetic_fer2013 import write_zip
from websockets.sync.client import connect as websocket

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")

import ray_processes
from ferserve.cluster import Replica
from ray import get_runtime_context

REPOSITORY = Path(__file__).resolve().parents[2]
REPLICA = "ServeReplica:ferserve:"
BENCHMARKS = "ServeReplica:ferserve-benchmarks:"
METRICS_PORT = 29_400
START_UP_SECONDS = 300
REPLACEMENT_SECONDS = 120

SETTINGS = {
    "models_dir": REPOSITORY / "models",
    "models": "custom_cnn",
    "max_upload_bytes": 4 * 1024 * 1024,
    "max_wait_ms": 500,  # so that a replica that is killed has something to lose
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_zip(tmp_path_factory.mktemp("data") / "fer2013.zip", train=1, test=3)


@pytest.fixture(scope="module")
def process(ray_machine, free_port, dataset, tmp_path_factory) -> Iterator[subprocess.Popen]:
    """The service on the cluster of the tests."""
    cluster = {"min_replicas": 2, "max_replicas": 2, "replica_cpus": 0.5}
    cluster["metrics_port"] = METRICS_PORT
    variables = {f"FERSERVE_{key.upper()}": str(value) for key, value in SETTINGS.items()}
    variables |= {f"FERSERVE_CLUSTER_{key.upper()}": str(value) for key, value in cluster.items()}
    variables |= {"RAY_ADDRESS": get_runtime_context().gcs_address}
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


async def in_one_process(method: str, path: str, **request) -> httpx.Response:
    async with serving(**SETTINGS) as client:
        return await client.request(method, path, **request)


def without_times(answer: dict) -> dict:
    return {key: answer[key] for key in answer if key not in ("request_id", "timing_ms")}


async def test_the_astronaut_gets_the_answer_of_a_single_process(client, photo):
    there = client.post("/v1/emotion?landmarks=true", content=photo("astronaut"))
    here = await in_one_process("POST", "/v1/emotion?landmarks=true", content=photo("astronaut"))
    assert there.status_code == here.status_code == 200, there.text
    answer = without_times(there.json())
    assert answer == without_times(here.json())
    assert answer["faces"][0]["dominant_emotion"] == "happy"
    assert "queue;dur=" in there.headers["Server-Timing"]


@pytest.mark.parametrize(
    ("method", "path", "request_"),
    [
        pytest.param("POST", "/v1/emotion", {"content": b"text"}, id="no image"),
        pytest.param("POST", "/v1/emotion", {"content": bytes(4 * 1024**2 + 1)}, id="too large"),
        pytest.param("POST", "/v1/emotion?model=none", {"content": b"x"}, id="unknown model"),
        pytest.param("GET", "/v1/emotion", {}, id="wrong method"),
        pytest.param("GET", "/nowhere", {}, id="nowhere"),
        pytest.param("GET", "/v1/benchmarks", {}, id="nowhere, nearly a benchmark"),
        pytest.param("GET", "/v1/benchmark/none", {}, id="unknown benchmark"),
        pytest.param("PUT", "/v1/benchmark", {}, id="wrong method of a benchmark"),
        pytest.param("POST", "/v1/benchmark", {"json": {"model": "none"}}, id="bad benchmark"),
    ],
)
async def test_bad_requests_get_the_problems_of_a_single_process(client, method, path, request_):
    there = client.request(method, path, headers={"X-Request-ID": "the-same"}, **request_)
    here = await in_one_process(method, path, headers={"X-Request-ID": "the-same"}, **request_)
    assert there.json() == here.json()
    assert there.status_code == here.status_code >= 400
    rays = {"date", "server"}  # the test of one process has no server in front
    assert [item for item in sorted(there.headers.multi_items()) if item[0] not in rays] == sorted(
        here.headers.multi_items()
    )


def test_a_request_id_that_could_forge_a_log_line_is_replaced(client):
    answer = client.get("/nowhere", headers={"X-Request-ID": "a b"})
    (header,) = answer.headers.get_list("X-Request-ID")
    assert header == answer.json()["request_id"] != "a b"


def test_frames_of_a_stream_are_answered(client, free_port, grey_crop):
    with websocket(f"ws://127.0.0.1:{free_port}/v1/emotion/stream") as stream:
        for frame in (1, 2):
            stream.send(grey_crop)
            answer = json.loads(stream.recv(timeout=30))
            assert answer["frame"] == frame
            assert len(answer["faces"]) == 1


async def test_tensors_of_v2_get_the_answer_of_a_single_process(client):
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    tensor = {"name": "faces", "shape": faces.shape, "datatype": "UINT8"}
    request = {"json": {"inputs": [tensor | {"data": faces.ravel().tolist()}]}}
    there = client.post("/v2/models/custom_cnn/infer", **request)
    here = await in_one_process("POST", "/v2/models/custom_cnn/infer", **request)
    assert there.status_code == 200, there.text
    (output,), (expected,) = there.json()["outputs"], here.json()["outputs"]
    assert output["data"] == pytest.approx(expected["data"], abs=1e-5)


def test_a_benchmark_is_always_found(client):
    started = client.post("/v1/benchmark", json={"model": "custom_cnn", "split": "public"})
    assert started.status_code == 202, started.text
    links = started.json()["links"]
    assert started.headers["Location"] == links["self"]
    events = client.get(links["events"])
    assert events.headers["content-type"].startswith("text/event-stream")
    assert '"status":"succeeded"' in events.text.replace(" ", "")
    for _ in range(6):  # more often than there are replicas
        assert client.get(links["self"]).json()["status"] == "succeeded"
    assert [job["id"] for job in client.get("/v1/benchmark").json()["jobs"]] == [
        started.json()["id"]
    ]
    assert client.get(links["report"]).headers["content-type"].startswith("text/html")


def metric(name: str, **labels: str) -> list[float]:
    """Asks the ports for metrics: the sum of one for each replica."""
    sums = []
    for port in range(METRICS_PORT, METRICS_PORT + 5):
        try:
            page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        except httpx.ConnectError:
            continue
        families = text_string_to_metric_families(page)
        samples = [sample for family in families for sample in family.samples]
        sums.append(
            sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
        )
    return sums


def test_every_replica_shows_its_own_metrics_on_a_port_of_its_own(client, grey_crop):
    assert metric("ferserve_ready") == [1, 1, 1]  # two of the service, one of benchmarks
    before = metric("ferserve_http_requests_total", route="/v1/emotion")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: client.post("/v1/emotion", content=grey_crop), range(16)))
    after = metric("ferserve_http_requests_total", route="/v1/emotion")
    answered = [count - earlier for count, earlier in zip(after, before, strict=True)]
    assert sum(answered) == 16
    assert sum(count > 0 for count in answered) == 2  # and none by that of benchmarks
    elsewhere = client.get("/metrics")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "not_found")


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


def test_a_killed_replica_costs_its_requests_and_no_wrong_answer(client, grey_crop):
    """Ray's proxy itself answers what the replica was working on, in the API's words."""
    expected = without_times(client.post("/v1/emotion", content=grey_crop).json())
    before = ray_processes.with_title(REPLICA)
    assert len(before) == 2
    with Clients(client, grey_crop) as clients:
        while sum(depth > 0 for depth in metric("ferserve_queue_faces")) < 2:
            clients.get(1)
        os.kill(before[0], signal.SIGKILL)
        clients.get(16)
    failed = [answer for answer in clients.answers if answer.status_code != 200]
    assert 1 <= len(failed) < 16  # the other replica answers
    for answer in failed:
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers.get_list("X-Request-ID") == [answer.json()["request_id"]]
    for answer in clients.answers:
        if answer.status_code == 200:
            (face,), (right,) = answer.json()["faces"], expected["faces"]
            assert face["emotions"] == pytest.approx(right["emotions"], abs=1e-5)
    assert client.get("/readyz").status_code == 200
    give_up = time.monotonic() + REPLACEMENT_SECONDS
    while len(set(ray_processes.with_title(REPLICA)) - {before[0]}) < 2:
        assert time.monotonic() < give_up, "the replica was not replaced"
        time.sleep(0.1)


async def test_a_replica_whose_worker_died_is_not_healthy():
    async with serving(**SETTINGS) as client:
        replica = Replica()
        replica.app = client.app
        replica.check_health()
        await client.app.state.recognizer.served("custom_cnn").batcher.close()
        with pytest.raises(NotReady, match="a worker died"):
            replica.check_health()


def test_without_models_it_says_so_and_does_not_start(ray_machine, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ferserve", "serve", "--engine", "ray"],
        cwd=REPOSITORY,
        env=os.environ | {"FERSERVE_MODELS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "holds no model" in done.stderr


def test_sigterm_ends_the_service_and_leaves_the_cluster(process, client):
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    assert not ray_processes.with_title(REPLICA)
    assert not ray_processes.with_title(BENCHMARKS)
    answer = client.get("/v1/models")  # Ray's proxy still listens
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
