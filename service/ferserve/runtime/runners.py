"""The ways to run a batch.

======== ======================================================================================
dynamic  one session, batches as they come; CUDA plans every new size anew
padded   one session; batches are filled up to the next of a few sizes, each planned at start-up
bound    the same, with buffers that stay on the device, copied to from page-locked memory
sessions a session a size with its shapes fixed, and such buffers
graphs   the same, and each session's kernels are captured in a CUDA graph that is then replayed
======== ======================================================================================

All give the same answers and run on every provider; on the CPU nothing is captured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.runtime.options import Strategy
from ferserve.runtime.pinned import page_locked
from ferserve.runtime.providers import CPU, TENSORRT
from ferserve.runtime.sessions import Sessions

INPUT = "faces"
OUTPUT = "probabilities"

Faces = NDArray[np.uint8]
Rows = NDArray[np.float32]


class Runner(Protocol):
    """Runs batches; safe to share between threads."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes worth rehearsing, in ascending order."""

    def run(self, faces: Faces) -> Rows:
        """Returns probabilities float32 ``[N, 7]`` of faces uint8 ``[N, 48, 48]``, N ≥ 1."""

    def rehearse(self, faces: Faces) -> list[Rows]:
        """Runs a batch on everything that may run it later; returns each answer."""


def open_runner(sessions: Sessions) -> Runner:
    """Opens what the options' strategy needs.

    Raises:
        ModelError: ONNX Runtime cannot do what is asked of it.
    """
    strategy = sessions.options.strategy or default_strategy(sessions.provider)
    sizes = sessions.options.batch_sizes
    if strategy == "dynamic":
        # On the CPU nothing is kept by shape.
        return DynamicRunner(sessions.any_size, (1,) if sessions.provider == CPU else sizes)
    if strategy == "padded":
        return PaddedRunner(sessions.any_size, sizes)
    device = None if sessions.provider == CPU else sessions.options.device_id
    workers = range(sessions.options.workers)
    if strategy == "bound":
        whole = dict.fromkeys(sizes, sessions.any_size)
        return SlotRunner([Slot(whole, device) for _ in workers], sizes)
    if strategy == "sessions":
        shared = {size: sessions.open(size) for size in sizes}
        return SlotRunner([Slot(shared, device) for _ in workers], sizes)
    captured = [{size: sessions.open(size, capture=True) for size in sizes} for _ in workers]
    return SlotRunner([ThreadSlot(own, device) for own in captured], sizes)


def default_strategy(provider: str) -> Strategy:
    """Returns the strategy that is taken where none is asked for."""
    if provider == CPU:
        return "dynamic"
    # TensorRT builds an engine for the shapes it has seen, and again for every other.
    return "sessions" if provider == TENSORRT else "padded"


class DynamicRunner:
    """Runs batches as they come."""

    def __init__(self, session: ort.InferenceSession, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self._session = session

    def run(self, faces: Faces) -> Rows:
        """As :meth:`Runner.run`."""
        rows: Rows
        (rows,) = self._session.run([OUTPUT], {INPUT: faces})
        return rows

    def rehearse(self, faces: Faces) -> list[Rows]:
        """As :meth:`Runner.rehearse`."""
        return [self.run(faces)]


class PaddedRunner:
    """Fills batches up with black faces to the next size, because cuDNN plans by shape."""

    def __init__(self, session: ort.InferenceSession, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self._session = session

    def run(self, faces: Faces) -> Rows:
        """As :meth:`Runner.run`."""
        return _in_pieces(faces, self.sizes, self._run_padded)

    def rehearse(self, faces: Faces) -> list[Rows]:
        """As :meth:`Runner.rehearse`."""
        return [self.run(faces)]

    def _run_padded(self, size: int, faces: Faces) -> Rows:
        count = len(faces)
        if count < size:
            faces = np.concatenate([faces, np.zeros((size - count, *faces.shape[1:]), np.uint8)])
        (rows,) = self._session.run([OUTPUT], {INPUT: faces})
        result: Rows = rows[:count]
        return result


class FixedBatch:
    """A session with buffers for one batch size; for one thread at a time."""

    def __init__(self, session: ort.InferenceSession, size: int, device: int | None) -> None:
        """Allocates the buffers.

        Args:
            session: Takes batches of this size.
            size: Of the batch.
            device: CUDA device to keep them on; None keeps them in the computer's memory.
        """
        place = ("cpu", 0) if device is None else ("cuda", device)
        shape = (size, FACE_SIDE, FACE_SIDE)
        self._staging = np.zeros(shape, np.uint8) if device is None else page_locked(shape)
        self._faces = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *place)
        self._rows = ort.OrtValue.ortvalue_from_shape_and_type(
            (size, len(EMOTIONS)), np.float32, *place
        )
        self._session = session
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._faces)
        self._binding.bind_ortvalue_output(OUTPUT, self._rows)

    def run(self, faces: Faces) -> Rows:
        """Returns the rows of at most as many faces as the batch has places."""
        count = len(faces)
        self._staging[:count] = faces
        self._staging[count:] = 0  # no earlier face stays
        self._faces.update_inplace(self._staging)
        self._session.run_with_iobinding(self._binding)
        rows: Rows = np.array(self._rows.numpy()[:count])  # never a view: the next run writes there
        return rows


class Slot:
    """Batches of every size, of which one runs at a time."""

    def __init__(self, sessions: Mapping[int, ort.InferenceSession], device: int | None) -> None:
        self._batches = {
            size: FixedBatch(session, size, device) for size, session in sessions.items()
        }

    def run(self, size: int, faces: Faces) -> Rows:
        """Runs faces in a batch of this size."""
        return self._batches[size].run(faces)


class ThreadSlot(Slot):
    """A slot whose runs are all made by one thread of its own.

    ONNX Runtime captures a CUDA graph for each thread that runs a session. Captured by the thread
    that warms up, it would be captured again at the first request.
    """

    def __init__(self, sessions: Mapping[int, ort.InferenceSession], device: int | None) -> None:
        super().__init__(sessions, device)
        self._thread = ThreadPoolExecutor(1, "cuda-graphs")

    def run(self, size: int, faces: Faces) -> Rows:
        """Runs faces in a batch of this size."""
        return self._thread.submit(super().run, size, faces).result()


class SlotRunner:
    """Gives each call a slot of its own; a call waits while all are taken."""

    def __init__(self, slots: Sequence[Slot], sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self._count = len(slots)
        self._free: LifoQueue[Slot] = LifoQueue()
        for slot in slots:
            self._free.put(slot)

    def run(self, faces: Faces) -> Rows:
        """As :meth:`Runner.run`."""
        slot = self._free.get()
        try:
            return _in_pieces(faces, self.sizes, slot.run)
        finally:
            self._free.put(slot)

    def rehearse(self, faces: Faces) -> list[Rows]:
        """As :meth:`Runner.rehearse`; alone, as capturing a CUDA graph bears no other work."""
        slots = [self._free.get() for _ in range(self._count)]
        try:
            return [_in_pieces(faces, self.sizes, slot.run) for slot in slots]
        finally:
            for slot in slots:
                self._free.put(slot)


def _in_pieces(faces: Faces, sizes: Sequence[int], run: Callable[[int, Faces], Rows]) -> Rows:
    """Runs faces in pieces of the largest size, the last in the smallest that holds it."""
    rows = [run(size, piece) for size, piece in _pieces(faces, sizes)]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _pieces(faces: Faces, sizes: Sequence[int]) -> Iterator[tuple[int, Faces]]:
    largest = sizes[-1]
    for start in range(0, len(faces), largest):
        piece = faces[start : start + largest]
        yield next(size for size in sizes if size >= len(piece)), piece
