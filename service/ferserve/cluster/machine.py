"""Ray on this machine alone."""

import logging
import math
import os
import secrets
from pathlib import Path

import ray

OBJECT_STORE_BYTES = 256 * 1024 * 1024
"""Memory for what travels between processes: large uploads, while they are being read."""


def start_ray(
    processors: float,
    *,
    object_store_bytes: int = OBJECT_STORE_BYTES,
    folder: Path | None = None,
) -> None:
    """Starts Ray; ``ray.shutdown`` ends it.

    Args:
        processors: How many it may give away; an account only, which may exceed what is there.
        object_store_bytes: Shared memory, or memory-mapped files where ``/dev/shm`` has too little.
        folder: Of its logs and sockets, with a short path; by default ``/tmp/ray``.
    """
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        # Only those who have the token can have Ray run their code; Ray's own would be in a file.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ray.init(
        "local",
        num_cpus=max(1, math.ceil(processors)),
        include_dashboard=False,
        object_store_memory=object_store_bytes,
        logging_level=logging.WARNING,
        # Images must not reach a disk, not even when memory is short.
        _system_config={"automatic_object_spilling_enabled": False},
        _temp_dir=str(folder) if folder else None,
    )
