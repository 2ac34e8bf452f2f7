"""The life of the process: start, end, and refusing to start."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_process_with_status_0(start_server, tmp_path, number):
    with start_server(tmp_path / "log") as server:
        assert server.terminate(number) == 0


def test_requests_under_way_are_answered_before_the_end(start_server, tmp_path, photo):
    data = photo("astronaut")
    with start_server(tmp_path / "log") as server:
        half_sent = threading.Event()
        terminated = threading.Event()
        responses: list[httpx.Response] = []

        def slowly():
            yield data[: len(data) // 2]
            half_sent.set()
            assert terminated.wait(10)
            yield data[len(data) // 2 :]

        def send() -> None:
            url = f"{server.base_url}/v1/emotion"
            responses.append(httpx.post(url, content=slowly(), timeout=30))

        sender = threading.Thread(target=send)
        sender.start()
        assert half_sent.wait(10)
        server.process.send_signal(signal.SIGTERM)
        notice = httpx.get(f"{server.base_url}/livez")
        terminated.set()
        sender.join(30)
        assert server.process.wait(30) == 0
    assert notice.status_code == 200
    assert [response.status_code for response in responses] == [200]


def test_readiness_goes_off_before_connections_are_refused(start_server, tmp_path):
    with start_server(tmp_path / "log") as server:
        server.process.send_signal(signal.SIGTERM)
        seen = []
        while server.process.poll() is None:
            try:
                seen.append(httpx.get(f"{server.base_url}/readyz").status_code)
            except httpx.TransportError:
                break
        assert seen[-1] == 503
        assert server.process.wait(30) == 0


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
        [sys.executable, "-m", "cli.main", "serve", "--port", "0"],
        cwd=REPOSITORY,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode in (1, 2)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
