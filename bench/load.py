# ruff: noqa: T201 - helps scripts that talk to the person who runs them
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import skimage.data
from ferserve.loadtest.payloads import Payload
from ferserve.settings import usable_cpus
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results"
START_UP_SECONDS = 120.0
STOP_SECONDS = 10.0
MARK = "BENCH_SERVICE"


class ServiceFailed(RuntimeError):  # noqa: N818 - an event
    """A service did not start or did not answer as it should; the first line says why."""


@dataclass(frozen=True)
class Service:
    """A running service: the process that was started, and all that it started.

    Attributes:
        url: Its address, without a path.
        client: Talks to it.
        process: The one that was started.
        mark: Stands in the environment of its processes, by which those that detached themselves
            are found. Ray's do that.
    """

    url: str
    client: httpx.Client
    process: subprocess.Popen[bytes]
    mark: str

    def processes(self) -> dict[int, str]:
        """Returns the ids of all of its processes, and when each started."""
        started, parents, mine = {}, {}, {self.process.pid}
        marked = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                pid, fields = int(folder.name), _stat(folder.name)
                started[pid], parents[pid] = fields[19], int(fields[1])
                if marked in (folder / "environ").read_bytes().split(b"\0"):
                    mine.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
            mine |= more
        return {pid: started[pid] for pid in mine & set(started)}

    def cpu_seconds(self) -> float:
        """Returns the processor time of all its processes and of their children that ended."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, _stat(pid)[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Returns the memory all hold, megabytes of 10^6 bytes; shared pages count for each."""
        pages = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

    def metric(self, name: str) -> dict[str, float]:
        """Returns the values of a metric by its labels as they stand on the page."""
        lines = self.client.get("/metrics").text.splitlines()
        found = [one.rsplit(" ", 1) for one in lines if one.startswith((f"{name}{{", f"{name} "))]
        return {labels.removeprefix(name): float(value) for labels, value in found}

    def until_ready(self, path: str = "/readyz", seconds: float = START_UP_SECONDS) -> float:
        """Waits until a path answers 200; returns the seconds it took.

        Raises:
            ServiceFailed: It ended, or was not ready in time.
        """
        begun = time.monotonic()
        while self.process.poll() is None and time.monotonic() < begun + seconds:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get(path).status_code == 200:
                    return time.monotonic() - begun
            time.sleep(0.05)
        raise ServiceFailed("not ready")

    def stop(self) -> None:
        """Asks it to end, and kills what is left of it after some seconds."""
        known = self.processes()
        self.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        while left := [pid for pid, begun in known.items() if _runs_since(pid, begun)]:
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            self.process.poll()  # so that it does not stay a zombie
        self.process.wait()


def _stat(pid: int | str) -> list[str]:
    """Returns the fields of /proc/PID/stat (proc(5)) that follow the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _runs_since(pid: int, begun: str) -> bool:
    """Whether a process still runs; another may have its id by now, but not its start."""
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return fields[0] not in "ZX" and fields[19] == begun


@contextmanager
def running(
    command: Sequence[str | Path],
    port: int,
    ready: str = "/readyz",
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] | None = None,
) -> Iterator[Service]:
    """Starts a service in a temporary folder, waits until it is ready, and ends it.

    Args:
        command: Starts it.
        port: That it will listen on, at 127.0.0.1.
        ready: Path that answers 200 once it is ready.
        environment: Variables beside this process' own.
        cores: Processors it may use; by default all.

    Raises:
        ServiceFailed: It was not ready in time; the message holds what it printed.
    """
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command] if cores else command
    url, mark = f"http://127.0.0.1:{port}", uuid.uuid4().hex
    with (
        tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder,
        Path(folder, "log").open("w+b") as log,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        own = {"TMPDIR": folder, MARK: mark}
        process = subprocess.Popen(  # noqa: S603
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


@contextmanager
def serving(**settings: object) -> Iterator[Service]:
    """Starts ``ferserve serve`` with these settings, waits until it is ready, and ends it."""
    port = free_port()
    chosen = {f"FERSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "ferserve", "serve", "--port", str(port)]
    with running(command, port, environment=chosen) as service:
        yield service


def free_port() -> int:
    """Returns a port that nobody listens on."""
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
    """Returns an image as a file of a format."""
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
    text = json.dumps(described() | result, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text + "\n")
    print(text)
    sys.exit(0 if all(result["met"].values()) else 1)


def described() -> dict[str, Any]:
    """Returns what a result depends on."""
    return {
        "machine": {
            "processor": _processor_name(),
            "processors": usable_cpus(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _processor_name() -> str:
    """Returns the processor's name where Linux says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
