"""The real server as a process of its own, with the models of the repository.

With ``FERSERVE_URL`` the tests ask the service there instead, on this machine and set as the
fixture ``server`` sets it; tests that start, end or look into a server of their own are skipped.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"
START_UP_SECONDS = 30
MAX_UPLOAD_BYTES = 4 * 1024 * 1024
PATIENT = """
from ferserve.api import server
from ferserve.cli import app
server.NOTICE_SECONDS = {}
app()
"""
URL = os.environ.get("FERSERVE_URL", "")
NOT_OURS = "the service at FERSERVE_URL is not for tests to start, end or look into"


@dataclass
class Server:
    """A running ``ferserve serve``."""

    base_url: str
    port: int
    process: subprocess.Popen[str]
    log: Path
    copying: threading.Thread | None = None

    def terminate(self, signal_number: int = signal.SIGTERM) -> int:
        """Asks the process to end and returns its exit status."""
        self.process.send_signal(signal_number)
        status = self.process.wait(timeout=30)
        if self.copying:
            self.copying.join(timeout=30)
        return status

    def log_lines(self, containing: str) -> list[str]:
        """Waits for a line with this text, and returns all that have it."""
        give_up = time.monotonic() + 10
        while True:
            found = [line for line in self.log.read_text().splitlines() if containing in line]
            if found or time.monotonic() > give_up:
                return found
            time.sleep(0.01)


@dataclass
class ServerElsewhere:
    """A service that was started by somebody else."""

    base_url: str

    @property
    def port(self) -> int:
        """Where it listens on this machine."""
        return urlsplit(self.base_url).port or 80

    def _skip(self, *_arguments: object) -> NoReturn:
        pytest.skip(NOT_OURS)

    process = log = property(_skip)
    terminate = log_lines = _skip


@contextmanager
def serving(
    log: Path,
    *,
    port: int | None = None,
    process_options: dict[str, Any] | None = None,
    notice_seconds: float | None = None,
    **settings: object,
) -> Iterator[Server]:
    """Starts a server, waits until it is ready, and ends it.

    Args:
        log: Gets what the process prints.
        port: A free one where it is not given.
        process_options: More for ``subprocess.Popen``; its ``env`` comes on top.
        notice_seconds: How long before its end it tells of it; a busy machine may need longer than
            ours to see that.
        settings: In lower case and without the prefix.
    """
    options = {"cwd": REPOSITORY} | (process_options or {})
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if "FERSERVE_" not in key}
    environment |= {
        "FERSERVE_MODELS_DIR": str(MODELS),
        "FERSERVE_DEFAULT_MODEL": "custom_cnn",
        "FERSERVE_PORT": str(port),
        "FERSERVE_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
    } | {f"FERSERVE_{key.upper()}": str(value) for key, value in settings.items()}
    program = ["-m", "ferserve"]
    if notice_seconds is not None:
        program = ["-c", PATIENT.format(notice_seconds)]
    process = subprocess.Popen(
        [sys.executable, *program, "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options | {"env": environment | options.get("env", {})},
    )
    log.touch()
    copying = threading.Thread(target=_copy, args=(process, log))
    copying.start()
    server = Server(f"http://127.0.0.1:{port}", port, process, log, copying)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.kill()
        process.wait()
        copying.join()


def _copy(process: subprocess.Popen[str], log: Path) -> None:
    # Through a pipe: a test forbids the process to write to files.
    with log.open("a") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()


def _wait_until_ready(server: Server) -> None:
    give_up = time.monotonic() + START_UP_SECONDS
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(f"{server.base_url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"the server did not become ready:\n{server.log.read_text()}")


@pytest.fixture(scope="session")
def _real_model() -> None:
    """The answers are asserted of the trained model, so without it there is nothing to test."""
    for name in ("custom_cnn.onnx", "custom_cnn.json", "face_detector.onnx"):
        assert (MODELS / name).is_file(), f"models/{name} is missing"


@pytest.fixture(scope="session")
def start_server(_real_model: None):
    """``with start_server(log_path, max_faces=3) as server: …`` for a server of one's own.

    It serves the Custom CNN; with ``models=""`` every model there is.
    """
    if URL:
        pytest.skip(NOT_OURS)
    return partial(serving, models="custom_cnn")


@pytest.fixture(scope="session")
def server(
    _real_model: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server | ServerElsewhere]:
    """The server that all tests share."""
    if URL:
        yield ServerElsewhere(URL)
        return
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, log_format="json", apikeys="misspelt") as server:
        yield server


@pytest.fixture(autouse=True)
def _asks_the_service(request: pytest.FixtureRequest) -> None:
    """A test that asks no server tells nothing of the service at ``FERSERVE_URL``."""
    if URL and "server" not in request.fixturenames:
        pytest.skip("asks no service")
