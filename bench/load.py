"""What the scripts share: a service as processes, what is sent to it, and the results."""

import argparse
import contextlib
import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import skimage.data
from ferserve.loadtest.plan import Payload
from ferserve.settings import usable_cpus
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results"
START_UP_SECONDS = 120.0
STOP_SECONDS = 10.0


class ServiceFailed(RuntimeError):  # noqa: N818 - an event
    """A service did not start or did not answer as it should; the first line says why."""


@dataclass(frozen=True)
class Service:
    """A running service: the process that was started, and all that it started.

    All have the variable ``mark``, which finds those that detached themselves, as Ray's do.
    """

    url: str
    client: httpx.Client
    process: subprocess.Popen[bytes]
    mark: str

    def processes(self) -> set[psutil.Process]:
        """Returns all of its processes that run."""
        found = set()
        for process in psutil.process_iter(["environ"]):
            if process.pid == self.process.pid or self.mark in (process.info["environ"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                    found |= {process, *process.children(recursive=True)}
        return {process for process in found if _runs(process)}

    def cpu_seconds(self) -> float:
        """Returns the processor time of all its processes and of their children that ended."""
        return self._total(lambda process: sum(process.cpu_times()[:4]))

    def resident_mb(self) -> float:
        """Returns the memory all hold, megabytes of 10^6 bytes; shared pages count for each."""
        return round(self._total(lambda process: process.memory_info().rss) / 1e6, 1)

    def _total(self, figure: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += figure(process)
        return total

    def metric(self, name: str) -> dict[str, float]:
        """Returns the values of a metric by its labels as they stand on the page."""
        lines = self.client.get("/metrics").text.splitlines()
        found = [one.rsplit(" ", 1) for one in lines if one.startswith((f"{name}{{", f"{name} "))]
        return {labels.removeprefix(name): float(value) for labels, value in found}

    def until_ready(self, path: str = "/readyz") -> None:
        """Waits until a path answers 200; ServiceFailed where it ended or takes too long."""
        deadline = time.monotonic() + START_UP_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get(path).status_code == 200:
                    return
            time.sleep(0.05)
        raise ServiceFailed("not ready")

    def stop(self) -> None:
        """Asks it to end, and kills what is left of it after some seconds."""
        known = self.processes()
        self.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        while left := [process for process in known if _runs(process)]:
            if time.monotonic() > deadline:
                for process in left:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            time.sleep(0.05)
        self.process.wait()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running(
    command: Sequence[str | Path],
    port: int,
    ready: str = "/readyz",
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] | None = None,
) -> Iterator[Service]:
    """Starts a service in a temporary folder, waits until it is ready, and ends it.

    Raises:
        ServiceFailed: It was not ready in time; the message holds what it printed.
    """
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command] if cores else command
    url, mark = f"http://127.0.0.1:{port}", f"BENCH_{uuid.uuid4().hex}"
    with (
        tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder,
        Path(folder, "log").open("w+b") as log,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        own = {"TMPDIR": folder, mark: ""}
        process = subprocess.Popen(
            pinned,
            cwd=folder,
            env=os.environ | (environment or {}) | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        service = Service(url, client, process, mark)
        try:
            try:
                service.until_ready(ready)
            except ServiceFailed as error:
                printed = Path(log.name).read_text(errors="replace").rstrip()[-3000:]
                last = printed.rpartition("\n")[2]
                raise ServiceFailed(f"{error}: {last}\n{printed}") from None
            yield service
        finally:
            service.stop()


def serving(**settings: object) -> AbstractContextManager[Service]:
    """Starts ``ferserve serve`` with these settings, waits until it is ready, and ends it."""
    port = free_port()
    chosen = {f"FERSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "ferserve", "serve", "--port", str(port)]
    return running(command, port, environment=chosen)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def face() -> Payload:
    """The astronaut's face as FER2013 would have it: 48 pixels square, grey, PNG."""
    portrait = Image.fromarray(skimage.data.astronaut()).crop((161, 54, 289, 182))
    return Payload(encoded(portrait.convert("L").resize((48, 48)), "PNG"), "image/png")


def photo() -> Payload:
    """The astronaut as a JPEG of 512x512 pixels, with one face to be found."""
    return Payload(encoded(Image.fromarray(skimage.data.astronaut())), "image/jpeg")


def encoded(image: Image.Image, file_format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def command_line(doc: str | None, **numbers: float) -> argparse.ArgumentParser:
    """Returns a parser with ``--out`` and an option for each number; small ones rehearse."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    return parser


def write_result(name: str, result: dict[str, Any], folder: Path) -> None:
    """Writes ``<name>.json`` with machine and date, and exits: with 1 where a goal was missed."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    machine = {
        "processor": next(iter(names), platform.machine()),
        "processors": usable_cpus(),
        "python": platform.python_version(),
    }
    date = time.strftime("%Y-%m-%d", time.gmtime())
    text = json.dumps({"machine": machine, "date": date} | result, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text + "\n")
    print(text)
    sys.exit(0 if all(result.get("met", {}).values()) else 1)
