"""Keeps models that were converted at start-up for the next start."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)


def kept(cache_dir: Path | None, kind: str, source: bytes, convert: Callable[[], bytes]) -> bytes:
    """Returns what ``convert`` returns, or what it returned at an earlier start.

    Args:
        cache_dir: Folder that keeps the result; None keeps none.
        kind: Of conversion, with its version; part of the file's name.
        source: All that the result depends on.
        convert: Makes the result.
    """
    if cache_dir is None:
        return convert()
    cached = cache_dir / f"{hashlib.sha256(source).hexdigest()}-{kind}.onnx"
    try:
        return cached.read_bytes()
    except OSError:
        converted = convert()
        _keep(cached, converted)
        return converted


def _keep(path: Path, content: bytes) -> None:
    """Writes a file so that others see all of it or nothing; a failure costs only the cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        logger.warning("%s: not cached: %s", path, error)
