"""A server process with the default limits, and what a request costs it."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What requests cost the server.

    Attributes:
        statuses: Of the answers.
        peak_mb: Most memory above that before.
        cpu_seconds: Processor time.
        left_mb: Memory above that before, at the end.
    """

    statuses: list[int]
    peak_mb: float
    cpu_seconds: float
    left_mb: float


class MeasuredServer:
    """A running ``ferserve serve``."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self._process = process
        self._proc = Path(f"/proc/{process.pid}")

    def ask(self, body: bytes, content_type: str = "application/octet-stream") -> httpx.Response:
        """Sends an image, or a document with one."""
        headers = {"Content-Type": content_type}
        return httpx.post(f"{self.url}/v1/emotion", content=body, headers=headers, timeout=60)

    def cost_of(self, *bodies: bytes, content_type: str, meanwhile: Callable[[], object]) -> Cost:
        """Sends requests at once, does something else meanwhile, and waits for their end."""
        statuses: list[int] = []
        before, cpu = self._memory("VmRSS"), self._cpu()
        (self._proc / "clear_refs").write_text("5")  # sets the peak back
        threads = [
            threading.Thread(
                target=lambda body=body: statuses.append(self.ask(body, content_type).status_code)
            )
            for body in bodies
        ]
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join()
        peak, used = self._memory("VmHWM") - before, self._cpu() - cpu
        give_up = monotonic() + 5
        while self._memory("VmRSS") - before > 20 and monotonic() < give_up:
            sleep(0.05)
        return Cost(statuses, peak, used, self._memory("VmRSS") - before)

    def _memory(self, name: str) -> float:
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

    def _cpu(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredServer]:
    """The server, after its first answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if "FERSERVE_" not in key}
    environment |= {"FERSERVE_MODELS_DIR": str(REPOSITORY / "models")}
    environment |= {"FERSERVE_MODELS": "custom_cnn", "FERSERVE_PORT": str(port)}
    environment |= {"FERSERVE_REQUEST_TIMEOUT_MS": "60000"}  # on a busy machine, too
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferserve", "serve"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = monotonic() + 60
        while monotonic() < give_up and process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                sleep(0.1)
        else:
            pytest.fail(f"the server did not become ready:\n{log.read_text()}")
        yield MeasuredServer(url, process)
    finally:
        process.kill()
        process.wait()
