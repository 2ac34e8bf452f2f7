"""An image's command in a container made of namespaces: locked root, no rights, no engine."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENTER = Path(__file__).with_name("enter.sh")
START_UP_SECONDS = 60
END_SECONDS = 30


@dataclass(frozen=True)
class Running:
    """A running container.

    Attributes:
        pid: Its first process, as this machine numbers it.
        log: What it has printed.
        ready_seconds: From its start to ``/readyz``.
        processor_seconds: What it computed meanwhile; less means that it had to wait.
        environment: The variables it was started with.
    """

    process: subprocess.Popen[bytes]
    pid: int
    log: Path
    ready_seconds: float
    processor_seconds: float
    environment: Mapping[str, str]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, as the same user."""
        status = self.status()
        user = f"--setuid={status['Uid'].split()[0]}", f"--setgid={status['Gid'].split()[0]}"
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--root", "--wd", *user]
        return subprocess.run(  # noqa: S603 - our own command
            [*inside, *command],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )

    def status(self) -> dict[str, str]:
        """Returns the first process' ``/proc/<pid>/status``."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def root_options(self) -> set[str]:
        """Returns the options that the first process' ``/`` is mounted with, such as ``ro``."""
        for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == "/":
                return set(fields[5].split(","))
        raise RuntimeError("the container has no root")

    def terminate(self) -> int:
        """Asks it to end, as ``docker stop`` does, and returns its exit status."""
        subprocess.run(["kill", "-TERM", str(self.pid)], check=True)  # noqa: S603, S607
        return self.process.wait(END_SECONDS)


@contextmanager
def running(
    log: Path, root: Path, config: Mapping[str, Any], settings: Mapping[str, str], url: str
) -> Iterator[Running]:
    """Starts an image's command, waits until it is ready, and ends it.

    Args:
        log: Gets what it prints.
        root: The image's file system.
        config: The image's configuration, in Docker's words.
        settings: Environment variables beside the image's own.
        url: Where it will answer; the network is this machine's.
    """
    own = dict(variable.split("=", 1) for variable in config["Env"])
    environment = {**own, **settings}
    user, _, group = config["User"].partition(":")
    command = [*(config.get("Entrypoint") or []), *config["Cmd"]]
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"]
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*alone, "sh", str(ENTER), str(root), user, group, *command],
            env=environment,
            stdout=file,
            stderr=file,
        )
    try:
        _wait_until_ready(process, url, log)
        ready = time.monotonic() - started
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        yield Running(process, pid, log, ready, _processor_seconds(pid), environment)
    finally:
        process.kill()  # and with it, by --kill-child, all that it started
        process.wait(END_SECONDS)


def _processor_seconds(pid: int) -> float:
    """Reads user and system time off ``/proc/<pid>/stat``: fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + START_UP_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - our own URL
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise RuntimeError(f"the service did not become ready:\n{log.read_text()}")
