"""What was seen in one image, or in one frame of a video."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferserve.errors import InternalError, Refusal
from ferserve.schemas import FaceEmotion, Recognition

ADDRESS = re.compile(r"data:|[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""How an address begins, once a path was made of it: that has one slash for two."""


@dataclass(frozen=True, slots=True)
class Item:
    """What was seen in a file, named as ``shown`` does; or why nothing was.

    A frame of a video has its number, from 1, its time in the video, and tracked faces.
    """

    file: str
    outcome: Recognition | Refusal
    frame: int | None = None
    seconds: float | None = None

    @property
    def faces(self) -> Sequence[FaceEmotion]:
        """Those of the answer."""
        return () if isinstance(self.outcome, Refusal) else self.outcome.faces

    def document(self) -> dict[str, Any]:
        """Returns the item as JSON has it."""
        document: dict[str, Any] = {"file": self.file}
        if self.frame is not None:
            document |= {"frame": self.frame, "seconds": self.seconds}
        if isinstance(self.outcome, Refusal):
            problem = {"code": self.outcome.code, "detail": self.outcome.detail}
            return document | {"problem": problem}
        # As any: a tracked face is more than the answer's type says.
        result = self.outcome.model_dump(exclude_unset=True, serialize_as_any=True)
        return document | {"result": result}


def shown(path: Path) -> str:
    r"""Returns a path to print: bytes that are not UTF-8 stand as ``\xe9``."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refusal_of_file(error: Exception) -> Refusal:
    """Says what is wrong with a file.

    Raises:
        Exception: ``error`` itself, where it is a fault of ours.
    """
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        if ADDRESS.match(str(error.filename)):
            why = "addresses are not opened: download it first"
        return Refusal(why, code="unreadable_file")
    if not isinstance(error, Refusal) or isinstance(error, InternalError):
        raise error
    return error
