"""Ray on this machine, started once for all tests that need it, in a folder of its own."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROCESSORS = 2
"""What replicas and workers reserve; Ray keeps account of them only."""

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""The least that Ray takes, rounded up: containers often have little shared memory."""


@pytest.fixture(scope="session")
def ray_machine() -> Iterator[None]:
    """A cluster of one machine, which this process is connected to."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    import ray
    from ferserve.cluster import start_ray

    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need a short path
    start_ray(PROCESSORS, object_store_bytes=OBJECT_STORE_BYTES, folder=folder)
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
