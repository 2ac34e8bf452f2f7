"""Memory that the engine and all fronts see; it has no name, and is gone with the last of them.

Each front has a part of its own: slots for faces and their answers, and what it holds of limits
that all fronts share. Only that front gives its slots away, and only after the engine is done with
them, so no answer can reach another request than its own.
"""

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from numpy.typing import NDArray

from ferserve.batcher import Answer, QueueFull
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.preparation import FaceImage
from ferserve.serving import Scores

SCORES = len(EMOTIONS)

ANSWER = SCORES + 2
"""Numbers of an answer: the scores, then the seconds in the queue and in inference."""


class Held(IntEnum):
    """What fronts hold of a limit that they share."""

    UPLOAD_BYTES = 0
    STREAMS = 1


@dataclass(frozen=True)
class Layout:
    """How the memory is divided.

    Attributes:
        fronts: Number of fronts.
        slots: Faces that each may have under way.
    """

    fronts: int
    slots: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Bytes of what is held, of the answers and of the faces."""
        places = self.fronts * self.slots
        return self.fronts * len(Held) * 8, places * ANSWER * 4, places * FACE_SIDE * FACE_SIDE

    @property
    def size(self) -> int:
        """Bytes altogether."""
        return sum(self.sizes)


def create_memory(size: int) -> int:
    """Returns the descriptor of so many bytes of memory, all zero."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ferserve", os.MFD_CLOEXEC)
        os.truncate(descriptor, size)
        return descriptor
    # macOS: the name goes at once, as every process that needs the memory inherits the descriptor.
    named = SharedMemory(create=True, size=size)
    descriptor = os.dup(named._fd)  # type: ignore[attr-defined]
    named.unlink()
    named.close()
    return descriptor


class Memory:
    """The memory, mapped into this process.

    Args:
        descriptor: Of the memory; it may be closed afterwards.
        layout: How it is divided.

    Attributes:
        held: int64 ``[fronts, len(Held)]``; each row is written by its front only.
        answers: float32 ``[fronts, slots, ANSWER]``.
        faces: uint8 ``[fronts, slots, 48, 48]``.
    """

    def __init__(self, descriptor: int, layout: Layout) -> None:
        held, answers, faces = layout.sizes
        content = memoryview(mmap.mmap(descriptor, held + answers + faces))
        self.held: NDArray[np.int64] = np.frombuffer(content[:held], np.int64).reshape(
            layout.fronts, len(Held)
        )
        self.answers: NDArray[np.float32] = np.frombuffer(
            content[held : held + answers], np.float32
        ).reshape(layout.fronts, layout.slots, ANSWER)
        self.faces: NDArray[np.uint8] = np.frombuffer(content[held + answers :], np.uint8).reshape(
            layout.fronts, layout.slots, FACE_SIDE, FACE_SIDE
        )


class Slots:
    """One front's places for faces; in the front itself.

    Args:
        faces: uint8 ``[slots, 48, 48]``.
        answers: float32 ``[slots, ANSWER]``.
    """

    def __init__(self, faces: NDArray[np.uint8], answers: NDArray[np.float32]) -> None:
        self._faces = faces
        self._answers = answers
        self._free = list(range(len(faces)))

    @property
    def free(self) -> int:
        """Number of free slots."""
        return len(self._free)

    def put(self, faces: Sequence[FaceImage]) -> list[int]:
        """Puts faces into free slots, which have to be given back.

        Args:
            faces: uint8 ``[48, 48]`` each.

        Raises:
            QueueFull: There are not as many.
        """
        first = len(self._free) - len(faces)
        if first < 0:
            raise QueueFull(f"{len(self._free)} places are left for faces")
        slots = self._free[first:]  # those that were used last: they are in the caches
        del self._free[first:]
        for slot, face in zip(slots, faces, strict=True):
            self._faces[slot] = face
        return slots

    def read(self, slots: list[int]) -> list[Answer[Scores]]:
        """Returns the answers in slots, in order."""
        rows = self._answers[slots]  # a copy
        return [
            Answer(row[:SCORES], float(queue), float(inference))
            for row, (queue, inference) in zip(rows, rows[:, SCORES:], strict=True)
        ]

    def give_back(self, slots: list[int]) -> None:
        """Makes slots free."""
        self._free += slots


def write_answers(
    answers: NDArray[np.float32], slots: Sequence[int], given: Sequence[Answer[Scores]]
) -> None:
    """Puts answers into their slots; in the engine.

    Args:
        answers: Of the front, float32 ``[slots, ANSWER]``.
        slots: Where each goes.
        given: The answers.
    """
    for slot, answer in zip(slots, given, strict=True):
        row = answers[slot]
        row[:SCORES] = answer.value
        row[SCORES:] = answer.queue_seconds, answer.inference_seconds
