# ruff: noqa: T201 - helps scripts that talk to the person who runs them
"""What the load scripts share: the real server as a process, its memory, and their results."""

import io
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import skimage.data
from ferserve.settings import usable_cpus
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results"
START_UP_SECONDS = 60


@dataclass
class Server:
    """A running ``ferserve serve``."""

    base_url: str
    port: int
    process: subprocess.Popen[bytes]
    client: httpx.Client


@contextmanager
def serving(**settings: object) -> Iterator[Server]:
    """Starts a server with these settings, waits until it is ready, and ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = {f"FERSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "ferserve", "serve", "--port", str(port)],
        cwd=REPOSITORY,
        env=os.environ | chosen,
        stderr=subprocess.DEVNULL,
    )
    base_url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base_url, timeout=60) as client:
            until_ready(client, START_UP_SECONDS)
            yield Server(base_url, port, process, client)
    finally:
        process.terminate()
        process.wait()


def until_ready(client: httpx.Client, seconds: float) -> float:
    """Waits until ``/readyz`` says yes; returns the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            if client.get("/readyz").status_code == 200:
                return time.monotonic() - started
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    sys.exit(f"the server was not ready within {seconds} s")


def resident_megabytes(server: Server) -> float:
    """Returns the memory that the process holds, megabytes of 10^6 bytes."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def photo(file_format: str = "JPEG") -> bytes:
    """The astronaut, 512 pixels square, one face."""
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(file, file_format)
    return file.getvalue()


def metric(client: httpx.Client, name: str) -> dict[str, float]:
    """Returns the values of a metric by its labels as they stand on the page."""
    lines = client.get("/metrics").text.splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return {labels.removeprefix(name): float(value) for labels, value in found}


def described() -> dict[str, Any]:
    """Returns what a result depends on."""
    return {
        "machine": {
            "processor": processor_name(),
            "processors": usable_cpus(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def processor_name() -> str:
    """Returns the processor's name where Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def face() -> bytes:
    """The astronaut's face as FER2013 would have it: 48 pixels square, grey, PNG."""
    file = io.BytesIO()
    portrait = Image.fromarray(skimage.data.astronaut())
    portrait.crop((161, 54, 289, 182)).convert("L").resize((48, 48)).save(file, "PNG")
    return file.getvalue()


def photo_640() -> bytes:
    """The astronaut in a JPEG of 640x480 pixels, one face."""
    file = io.BytesIO()
    portrait = Image.fromarray(skimage.data.astronaut()).resize((640, 640))
    portrait.crop((0, 0, 640, 480)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> None:
    """Writes ``<name>.json`` and exits, with 1 where a goal was missed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sys.exit(0 if all(result["met"].values()) else 1)
