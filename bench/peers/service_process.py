"""A service under test: its start, what all of its processes use, and its end."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

START_UP_SECONDS = 120.0
STOP_SECONDS = 10.0
MARK = "BENCH_SERVICE"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

STATE, PARENT, TIMES, STARTED = 0, 1, slice(11, 15), 19
"""Fields of /proc/PID/stat after the name; the times are utime, stime, cutime, cstime."""


class ServiceFailed(RuntimeError):  # noqa: N818 - an event
    """A service did not start; the message is the last line that it printed, then all of them."""


class Service:
    """A running service.

    Its processes are those below the one that was started, and those that carry its mark in their
    environment: Ray's detach themselves from their parent.
    """

    def __init__(self, process: subprocess.Popen[bytes], mark: str) -> None:
        self._process = process
        self._mark = f"{MARK}={mark}".encode()

    def processes(self) -> list[int]:
        """Returns the ids of all of its processes."""
        parents = {}
        mine = {self._process.pid} if self.alive() else set()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                parents[int(folder.name)] = int(_stat(folder)[PARENT])
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    mine.add(int(folder.name))
            except OSError:  # it ended meanwhile
                continue
        while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
            mine |= more
        return sorted(mine & set(parents))

    def cpu_seconds(self) -> float:
        """Returns the processor time that all have used, with that of children that ended."""
        total = 0
        for pid in self.processes():
            try:
                total += sum(int(ticks) for ticks in _stat(Path(f"/proc/{pid}"))[TIMES])
            except OSError:
                continue
        return total / TICKS

    def resident_bytes(self) -> int:
        """Returns the memory all hold; what several share counts for each."""
        total = 0
        for pid in self.processes():
            try:
                total += PAGE * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue
        return total

    def alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Asks it to end, ever more firmly, until none of its processes is left."""
        known = {(pid, _started(pid)) for pid in self.processes()}
        for number in (signal.SIGINT, signal.SIGTERM):
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
        deadline = time.monotonic() + STOP_SECONDS * (self._process.poll() is not None)
        while left := [pid for pid, started in known if started and _started(pid) == started]:
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        self._process.wait()


@contextmanager
def running(
    command: Sequence[str | Path],
    ready_url: str,
    environment: dict[str, str],
    cores: Sequence[int],
) -> Iterator[Service]:
    """Starts a service on these processors, waits until it is ready, and ends it.

    Its working folder is a temporary one.

    Raises:
        ServiceFailed: It was not ready in time.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        elsewhere = {"TMPDIR": folder, "BENTOML_HOME": f"{folder}/bentoml"}
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                ["taskset", "-c", ",".join(map(str, cores)), *command],  # noqa: S607
                cwd=folder,
                env=os.environ | environment | elsewhere | {MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        service = Service(process, mark)
        try:
            _until_ready(service, ready_url, log)
            yield service
        finally:
            service.stop()


def _until_ready(service: Service, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_UP_SECONDS
    while time.monotonic() < deadline and service.alive():
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    printed = log.read_text(errors="replace")[-3000:]
    last = printed.rstrip().rpartition("\n")[2]
    raise ServiceFailed(f"not ready: {last}\n{printed}")


def _stat(folder: Path) -> list[str]:
    """Returns the fields of /proc/PID/stat (proc(5)) that follow the name."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _started(pid: int) -> str | None:
    """Returns when a process started: no later one has both its id and that. None if it ended."""
    try:
        fields = _stat(Path(f"/proc/{pid}"))
    except OSError:
        return None
    return None if fields[STATE] in "ZX" else fields[STARTED]
