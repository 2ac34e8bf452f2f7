"""``FERSERVE_FRONT_PROCESSES=2``: answers, metrics and failures are those of one process."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from class_folders import images, zipped
from front_processes import a_client_of_each, alive, children, eventually, local_port, owner
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = ("the-key-of-the-first", "the-key-of-the-second")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def start_fronts(start_server, tmp_path_factory):
    """``with start_fronts(max_queue=64) as server: …``, with the smallest model alone."""

    @contextmanager
    def start(**settings: object):
        log = tmp_path_factory.mktemp("fronts") / "log"
        given = {"front_processes": 2, "models": "custom_cnn", "request_timeout_ms": 60_000}
        with start_server(log, **given | settings) as server:
            server.fronts = children(server.process.pid)
            assert len(server.fronts) == 2
            yield server
        eventually(lambda: not any(map(alive, server.fronts)))

    return start


@pytest.fixture(scope="module")
def fronts(start_fronts):
    with start_fronts() as server:
        yield server


@pytest.fixture(scope="module")
def clients(fronts):
    """A client of each front."""
    with a_client_of_each(fronts.base_url, fronts.fronts) as found:
        yield list(found.values())


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """The values of ``/metrics`` by name and labels, each of which is there once."""
    found = [
        ((sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))), sample)
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return {name: sample.value for name, sample in found}


def requests_of(page: dict[tuple[str, ...], float], route: str, code: int = 200) -> float:
    names = (name for name in page if name[0] == "ferserve_http_requests_total")
    return sum(page[name] for name in names if {f"route={route}", f"code={code}"} <= {*name})


def of_model(page: dict[tuple[str, ...], float], name: str, *labels: str) -> float:
    """A series of the model; 0 where nothing was counted yet."""
    return sum(page[key] for key in page if key[0] == name and {*labels} <= {*key})


def test_32_photos_at_once_are_answered_as_one_process_answers_them(server, fronts, photo):
    photos = [photo("astronaut", format="JPEG", size=(side, side)) for side in range(200, 520, 10)]
    assert len(photos) == 32

    def ask(base_url: str, data: bytes) -> dict:
        response = httpx.post(
            f"{base_url}/v1/emotion?model=custom_cnn&landmarks=true", content=data, timeout=120
        )
        assert response.status_code == 200
        return response.json()

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, [fronts.base_url] * 32, photos))
    for data, answer in zip(photos, answers, strict=True):
        expected = ask(server.base_url, data)
        (face,), (expected_face,) = answer["faces"], expected["faces"]
        for scores in ("emotions", "confidence"):  # batches of other sizes round otherwise
            assert face.pop(scores) == pytest.approx(expected_face.pop(scores), abs=1e-5)
        assert face == expected_face
        assert (answer["model"], answer["image"]) == (expected["model"], expected["image"])


def test_metrics_of_any_front_count_all_processes_once(clients, photo, grey_crop):
    before = samples(clients[0])
    for client, crops in zip(clients, (7, 3), strict=True):
        for _ in range(crops):
            assert client.post("/v1/emotion", content=grey_crop).status_code == 200
        assert client.post("/v1/emotion", content=photo("astronaut")).status_code == 200
        assert client.post("/v1/emotion", content=b"no image").status_code == 415
        assert client.get("/v1/benchmark").status_code == 200

    def grown(page: dict[tuple[str, ...], float]) -> dict[str, float]:
        def by(name: str, *labels: str) -> float:
            return of_model(page, name, *labels) - of_model(before, name, *labels)

        def answered(route: str, code: int) -> float:
            return requests_of(page, route, code) - requests_of(before, route, code)

        return {
            "photos": answered("/v1/emotion", 200),
            "refused": answered("/v1/emotion", 415),
            "forwarded": answered("/v1/benchmark", 200),
            "faces": by("ferserve_batch_faces_sum", "lane=live"),
            "queued": by("ferserve_queue_seconds_count", "lane=live"),
            "decoded": by("ferserve_preparation_seconds_count", "stage=decode"),
            "detected": by("ferserve_preparation_seconds_count", "stage=detect"),
        }

    expected = {"photos": 12, "refused": 2, "forwarded": 2, "faces": 12, "queued": 12}
    expected |= {"decoded": 12, "detected": 2}
    # A request is counted just after the last byte of its answer.
    eventually(lambda: grown(samples(clients[0])) == expected)
    assert grown(samples(clients[1])) == expected
    for page in map(samples, clients):
        assert page["ferserve_ready",] == 1
        assert of_model(page, "ferserve_model_info", "model=custom_cnn") == 1
        assert page["ferserve_images_under_way",] == 0


def test_every_front_answers_bad_input_with_the_apis_problems(clients):
    for client in clients:
        response = client.post("/v1/emotion?model=nobody", content=b"?")
        problem = response.json()
        assert (response.status_code, problem["code"]) == (422, "unknown_model")
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["request_id"] == response.headers["x-request-id"]
        missing = client.get("/v1/benchmark/nobody", headers={"X-Request-ID": "mine"})
        assert (missing.status_code, missing.json()["request_id"]) == (404, "mine")


@contextmanager
def hanging(server):
    """The engine does nothing meanwhile; the fronts go on."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def test_faces_of_clients_that_left_are_not_computed(fronts, clients, grey_crop):
    before = samples(clients[0])
    head = f"POST /v1/emotion HTTP/1.1\r\nHost: x\r\nContent-Length: {len(grey_crop)}\r\n\r\n"
    with hanging(fronts):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", fronts.port)) as connection:
                connection.sendall(head.encode() + grey_crop)
        eventually(lambda: len(fronts.log_lines("POST /v1/emotion client left")) >= 20)
    left = requests_of(before, "/v1/emotion", 499) + 20
    eventually(lambda: requests_of(samples(clients[0]), "/v1/emotion", 499) == left)
    computed = of_model(before, "ferserve_batch_faces_sum", "lane=live")
    assert of_model(samples(clients[1]), "ferserve_batch_faces_sum", "lane=live") == computed
    for client in clients:
        assert client.post("/v1/emotion", content=grey_crop).status_code == 200


def test_a_benchmark_is_there_whichever_front_is_asked(clients):
    first, second = clients
    data = zipped(images(count=3))
    response = first.post(
        "/v1/benchmark", files={"file": ("faces.zip", data)}, data={"detect": "false"}
    )
    assert response.status_code == 202
    path = response.headers["location"]
    (job, *_) = second.get("/v1/benchmark").json()["jobs"]
    assert job["id"] in path
    with second.stream("GET", f"{path}/events") as events:
        last = [line for line in events.iter_lines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["status"] == "succeeded"
    for client in clients:
        job = client.get(path).json()
        assert (job["status"], job["progress"]["done"]) == ("succeeded", 21)
        assert client.get(f"{path}/report").text.startswith("<!doctype html>")
    assert second.delete(path).json()["status"] == "succeeded"
    assert first.post("/v1/benchmark", files={"file": io.BytesIO(b"PK?")}).status_code in (415, 422)


def test_no_front_is_ready_while_the_engine_hangs(fronts, clients):
    with hanging(fronts):
        for client in clients:
            response = client.get("/readyz")
            assert (response.status_code, response.json()["code"]) == (503, "not_ready")
            assert client.get("/livez").status_code == 200
    for client in clients:
        assert client.get("/readyz").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200


def test_no_process_has_tensorflow_and_their_memory_has_no_name(fronts):
    for process in (fronts.process.pid, *fronts.fronts):
        maps = Path(f"/proc/{process}/maps").read_text()
        assert "tensorflow" not in maps
        assert "/memfd:ferserve (deleted)" in maps


@pytest.fixture(scope="module")
def narrow(start_fronts):
    """Two fronts with little room; each test has a key of its own."""
    with start_fronts(
        max_queue=2,
        max_faces=2,
        inference_workers=1,
        rate_limit="200/hour",
        api_keys=",".join(KEYS),
    ) as server:
        yield server


def test_calls_are_counted_over_all_fronts(narrow):
    headers = {"X-API-Key": KEYS[0]}
    with a_client_of_each(narrow.base_url, narrow.fronts) as clients:

        def ask(client: httpx.Client) -> Counter[int]:
            return Counter(
                client.get("/v1/models", headers=headers).status_code for _ in range(150)
            )

        with ThreadPoolExecutor(2) as pool:
            counted = sum(pool.map(ask, clients.values()), Counter())
        assert counted == {200: 200, 429: 100}
        refused = [client.get("/v1/models", headers=headers) for client in clients.values()]
        for response in refused:
            assert response.json()["code"] == "rate_limited"
            assert int(response.headers["retry-after"]) > 1
        assert {client.get("/metrics").status_code for client in clients.values()} == {401}


def test_what_the_engine_has_no_place_for_is_answered_429(narrow):
    tensor = {"name": "faces", "shape": [2, 48, 48], "datatype": "UINT8", "data": [7] * 4608}
    asked = {"inputs": [tensor]}
    start = threading.Barrier(16)

    def ask(_number: int) -> list[tuple[int, str | None]]:
        with httpx.Client(base_url=narrow.base_url, timeout=120) as client:
            start.wait(60)
            answers = [
                client.post(
                    "/v2/models/custom_cnn/infer", json=asked, headers={"X-API-Key": KEYS[1]}
                )
                for _ in range(6)
            ]
        return [(answer.status_code, answer.json().get("code")) for answer in answers]

    with ThreadPoolExecutor(16) as pool:
        outcomes = Counter(outcome for found in pool.map(ask, range(16)) for outcome in found)
    assert outcomes.keys() == {(200, None), (429, "queue_full")}
    with httpx.Client(base_url=narrow.base_url, headers={"X-API-Key": KEYS[1]}) as client:
        eventually(lambda: requests_of(samples(client), _INFER, 429) == outcomes[429, "queue_full"])
        page = samples(client)
    rejected = of_model(page, "ferserve_faces_dropped_total", "lane=live", "reason=rejected")
    assert rejected == 2 * outcomes[429, "queue_full"]
    assert of_model(page, "ferserve_batch_faces_sum", "lane=live") == 2 * outcomes[200, None]


_INFER = "/v2/models/{name}/infer"


class Load:
    """Clients that have the same face rated over and over, until they are told to stop.

    ``answers`` are the scores; ``lost`` has, for each request without an answer, the front that its
    client was first connected to.
    """

    def __init__(self, server, face: bytes, clients: int = 12) -> None:
        self.answers: list[dict[str, float]] = []
        self.lost: list[int | None] = []
        self.connected: Counter[int | None] = Counter()
        self._ask_of = server
        self._face = face
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._callers = [self._pool.submit(self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        eventually(lambda: self.connected.total() == len(self._callers))
        self.go_on()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._pool.shutdown()

    def go_on(self) -> None:
        """Returns when some more requests were answered."""
        enough = len(self.answers) + 50
        eventually(lambda: len(self.answers) >= enough)

    def stop(self) -> None:
        """Ends when every client has its last answer; raises what a client met."""
        self._stopped.set()
        for caller in self._callers:
            caller.result(120)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._ask_of.base_url, timeout=120) as client:
            front = owner(local_port(client), self._ask_of.fronts)
            self.connected[front] += 1
            while not self._stopped.is_set():
                try:
                    response = client.post("/v1/emotion", content=self._face)
                except httpx.TransportError:
                    self.lost.append(front)
                    front = None
                    continue
                assert response.status_code == 200, response.text
                self.answers.append(response.json()["faces"][0]["emotions"])


def test_a_killed_front_is_replaced_and_its_own_connections_alone_are_lost(start_fronts, grey_crop):
    with start_fronts() as server:
        alone = httpx.post(f"{server.base_url}/v1/emotion", content=grey_crop, timeout=120).json()
        with Load(server, grey_crop) as load, httpx.Client(base_url=server.base_url) as client:
            ((killed, _),) = load.connected.most_common(1)
            before = samples(client)
            os.kill(killed, signal.SIGKILL)
            kept = server.fronts - {killed}
            eventually(lambda: len(children(server.process.pid) - {killed}) == 2)
            server.fronts = children(server.process.pid) - {killed}
            assert kept < server.fronts
            load.go_on()
            with a_client_of_each(server.base_url, server.fronts) as clients:
                for client in clients.values():
                    assert client.get("/readyz").status_code == 200
                    after = samples(client)
                    for name in ("ferserve_preparation_seconds_count", "ferserve_batch_faces_sum"):
                        label = "stage=decode" if "preparation" in name else "lane=live"
                        assert of_model(after, name, label) > of_model(before, name, label)
            load.stop()
        assert server.log_lines(f"ended with status {-signal.SIGKILL}; starting another")
    assert 1 <= len(load.lost) <= load.connected[killed]
    assert {*load.lost} == {killed}
    whole = pytest.approx(alone["faces"][0]["emotions"], abs=1e-5)
    assert all(answer == whole for answer in load.answers)


def test_the_end_loses_no_request_under_load(start_fronts, grey_crop):
    with start_fronts() as server:
        with Load(server, grey_crop) as load, httpx.Client(base_url=server.base_url) as probe:
            server.process.send_signal(signal.SIGTERM)
            while probe.get("/readyz").status_code == 200:
                pass
            before = len(load.answers)
            while len(load.answers) < before + 12:  # some are asked for after the notice, too
                time.sleep(0.001)
            load.stop()
        assert server.process.wait(120) == 0
    assert not load.lost


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "twice asked"])
def test_all_fronts_end_with_the_engine(start_fronts, number):
    with (
        start_fronts(drain_seconds=60) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(b"POST /v1/emotion HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        if number == signal.SIGTERM:
            server.process.send_signal(number)
            while httpx.get(f"{server.base_url}/readyz").status_code == 200:
                pass
        status = server.terminate(number)
        assert status == (128 + number if number == signal.SIGTERM else -number)
        eventually(lambda: not any(map(alive, server.fronts)))
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "settings",
    [{"MODELS_DIR": "/nonexistent"}, {"MODELS": "nobody"}, {"PORT": "taken"}],
    ids=["no models", "unknown model", "port in use"],
)
def test_what_cannot_be_served_is_refused_as_one_process_refuses_it(fronts, settings):
    def refusal(processes: int) -> tuple[int, str]:
        chosen = {"FRONT_PROCESSES": processes, "PORT": 0, "MODELS": "custom_cnn"} | settings
        if chosen["PORT"] == "taken":
            chosen["PORT"] = fronts.port
        ended = subprocess.run(
            [sys.executable, "-m", "ferserve", "serve"],
            cwd=REPOSITORY,
            env=os.environ | {f"FERSERVE_{key}": str(value) for key, value in chosen.items()},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stderr

    (status, expected), (found, message) = refusal(0), refusal(2)
    assert found == status != 0
    if "PORT" in settings:
        assert "already in use" in expected
        assert "already in use" in message.lower()
    else:
        assert _reason(message) == _reason(expected)


def _reason(log: str) -> str:
    """The words of the log's last line."""
    return log.splitlines()[-1].partition("] ")[2]
