"""Ray on this machine, started once for all tests that need it."""

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_machine() -> Iterator[None]:
    """A cluster of one machine, which this process is connected to."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    import ray
    from ferserve.cluster import start_ray

    start_ray(processors=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
