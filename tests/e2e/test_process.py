"""The life of the process: start, end, and refusing to start."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTICE_SECONDS = 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_process_with_status_0(start_server, tmp_path, number):
    with start_server(tmp_path / "log") as server:
        assert server.terminate(number) == 0


def test_requests_under_way_are_answered_before_the_end(start_server, tmp_path, photo):
    data = photo("astronaut")
    with start_server(tmp_path / "log", notice_seconds=0) as server:
        half_sent = threading.Event()
        refused = threading.Event()
        responses: list[httpx.Response] = []

        def slowly():
            yield data[: len(data) // 2]
            half_sent.set()
            assert refused.wait(10)
            time.sleep(2)  # of the 20 seconds that it has
            yield data[len(data) // 2 :]

        def send() -> None:
            url = f"{server.base_url}/v1/emotion"
            responses.append(httpx.post(url, content=slowly(), timeout=30))

        sender = threading.Thread(target=send)
        sender.start()
        assert half_sent.wait(10)
        server.process.send_signal(signal.SIGTERM)
        with suppress(httpx.TransportError):
            while True:
                httpx.get(f"{server.base_url}/livez")
        refused.set()
        sender.join(30)
        assert server.process.wait(30) == 0
    assert [response.status_code for response in responses] == [200]


def test_a_request_that_outlasts_the_end_is_told(start_server, tmp_path):
    with start_server(tmp_path / "log", notice_seconds=0, drain_seconds=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            connection.sendall(
                b"POST /v1/emotion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
            server.process.send_signal(signal.SIGTERM)
            head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["code"] == "not_ready"


def test_readiness_goes_off_before_connections_are_closed_and_refused(start_server, tmp_path):
    with start_server(tmp_path / "log", notice_seconds=NOTICE_SECONDS) as server:
        seen = [httpx.get(f"{server.base_url}/readyz")]
        server.process.send_signal(signal.SIGTERM)
        with suppress(httpx.TransportError):
            while True:
                seen.append(httpx.get(f"{server.base_url}/readyz"))
        assert seen[-1].status_code == 503
        assert seen[-1].headers["connection"] == "close"
        assert "connection" not in seen[0].headers
        assert server.process.wait(30) == 0


def test_the_end_loses_no_request_under_load(start_server, tmp_path, grey_crop):
    sent, answered, ended = threading.Semaphore(0), [], threading.Event()

    def ask(base_url: str) -> None:
        with httpx.Client(base_url=base_url, timeout=30) as client:
            while not ended.is_set():
                sent.release()
                answered.append(client.post("/v1/emotion", content=grey_crop).status_code)

    with (
        start_server(tmp_path / "log", notice_seconds=NOTICE_SECONDS) as server,
        ThreadPoolExecutor(16) as pool,
    ):
        callers = [pool.submit(ask, server.base_url) for _ in range(16)]
        for _ in range(100):
            assert sent.acquire(timeout=10)
        server.process.send_signal(signal.SIGTERM)
        with httpx.Client(base_url=server.base_url) as probe:
            while probe.get("/readyz").status_code == 200:
                pass
        before = len(answered)
        give_up = time.monotonic() + 10
        while len(answered) < before + 16:  # some are asked for after the notice, too
            assert time.monotonic() < give_up
            time.sleep(0.001)
        ended.set()
        for caller in callers:
            caller.result(30)  # raises where a connection broke
        assert server.process.wait(30) == 0
    assert set(answered) == {200}


def test_the_health_check_of_the_image_asks_no_proxy(start_server, tmp_path):
    instruction = (REPOSITORY / "Dockerfile").read_text().partition("HEALTHCHECK")[2]
    _, *command = json.loads(instruction[instruction.index("[") : instruction.index("]\nCMD") + 1])
    variables = os.environ | {"http_proxy": "http://127.0.0.1:9"}

    def healthy(port: int) -> bool:
        variables["FERSERVE_PORT"] = str(port)
        ended = subprocess.run([sys.executable, *command], env=variables, capture_output=True)
        return ended.returncode == 0

    with start_server(tmp_path / "log") as server:
        assert healthy(server.port)
    assert not healthy(server.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_stops_at_once(start_server, tmp_path, number):
    with start_server(tmp_path / "log", notice_seconds=NOTICE_SECONDS, drain_seconds=60) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /v1/emotion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
            server.process.send_signal(signal.SIGTERM)
            while httpx.get(f"{server.base_url}/readyz").status_code == 200:
                pass
            assert server.terminate(number) == 128 + number
        assert "a second signal" in server.log.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"FERSERVE_MODELS_DIR": "/nonexistent"}, "no face detector"),
        ({"FERSERVE_MODELS": "nobody"}, "nobody.json"),
        ({"FERSERVE_MAX_QUEUE": "1"}, "max_queue"),
    ],
    ids=["no models", "unknown model", "bad setting"],
)
def test_what_cannot_be_served_is_refused_at_the_start(settings, message):
    ended = subprocess.run(
        [sys.executable, "-m", "ferserve", "serve", "--port", "0"],
        cwd=REPOSITORY,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode in (1, 2)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_forwarded_address_is_not_believed_unasked(start_server, tmp_path, monkeypatch):
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    with start_server(tmp_path / "log", rate_limit="1/year") as server:
        for caller, status in (("192.0.2.1", 200), ("192.0.2.2", 429)):
            headers = {"X-Forwarded-For": caller}
            assert httpx.get(f"{server.base_url}/v1/models", headers=headers).status_code == status


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")
def test_two_colons_listen_on_both_families(start_server, tmp_path, monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")  # as such, not as ::ffff:127.0.0.1
    with start_server(tmp_path / "log", host="::", rate_limit="1/year") as server:
        assert httpx.get(f"http://[::1]:{server.port}/livez").status_code == 200
        for caller in ("192.0.2.1", "192.0.2.2"):
            headers = {"X-Forwarded-For": caller}
            assert httpx.get(f"{server.base_url}/v1/models", headers=headers).status_code == 200
        assert server.terminate() == 0
