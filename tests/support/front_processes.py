"""Which process is a front, and which front has a connection; as Linux tells it in ``/proc``."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

PATIENCE = 60.0


def eventually(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; fails after ``PATIENCE`` seconds."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it did not come to pass"
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(process: int) -> set[int]:
    """The living children of a process."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process and state != "Z":
                found.add(int(stat.parent.name))
    return found


def owner(client_port: int, processes: set[int]) -> int | None:
    """The process that accepted the connection from a local port; None if none has yet."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{client_port:04X}")}
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor) in inodes:  # noqa: PTH115 - no such path exists
                    return process
    return None


def local_port(client: httpx.Client, path: str = "/livez") -> int:
    """The port that a client's kept connection comes from, after one request on it."""
    with client.stream("GET", path) as response:
        response.read()
        port: int = response.extensions["network_stream"].get_extra_info("client_addr")[1]
        return port


@contextlib.contextmanager
def a_client_of_each(base_url: str, fronts: set[int]) -> Iterator[dict[int, httpx.Client]]:
    """Clients with a kept connection each, one to every front."""
    found: dict[int, httpx.Client] = {}
    limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
    give_up = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while found.keys() != fronts:
            assert time.monotonic() < give_up, "a front accepts nothing"
            client = httpx.Client(base_url=base_url, timeout=120, limits=limits)
            front = owner(local_port(client), fronts)
            if front is None or front in found:
                client.close()
            else:
                found[front] = stack.enter_context(contextlib.closing(client))
        yield found
