"""What the pipeline tells those who watch it. By default nobody does; metrics are one watcher."""

from collections.abc import Callable, Sequence

from ferserve.lanes import Lane, Release


class BatchObserver:
    """Hears of a batcher's work; every method does nothing here.

    ``batch_released``, ``batch_done`` and ``worker_died`` are called from worker threads, the
    others from the event loop. All must be quick and must not raise.
    """

    def watch_queue(self, lane: Lane, length: Callable[[], int]) -> None:
        """Is given, once, a function that counts what waits in a lane."""

    def batch_released(self, lane: Lane, queue_seconds: Sequence[float], reason: Release) -> None:
        """A worker took a batch, whose items had waited for so long."""

    def batch_done(self, inference_seconds: float) -> None:
        """A batch was computed, or failed, after so long."""

    def rejected(self, lane: Lane, items: int) -> None:
        """Items found no place in the queue."""

    def expired(self, lane: Lane, items: int) -> None:
        """Items were not answered by their deadline."""

    def cancelled(self, lane: Lane, items: int) -> None:
        """Items were given up by who submitted them."""

    def worker_died(self) -> None:
        """A worker died; it will be restarted."""


class StreamObserver:
    """Hears of streams of frames; every method does nothing here.

    All are called from the event loop, must be quick and must not raise.
    """

    def watch_streams(self, count: Callable[[], int]) -> None:
        """Is given, once, a function that counts the open streams."""

    def stream_ended(self, reason: str) -> None:
        """A stream ended, or was refused."""

    def frame_answered(self, seconds: float, *, refused: bool) -> None:
        """A frame was answered so long after it came: with a problem where it was refused."""

    def frame_dropped(self) -> None:
        """A frame was not answered."""


class PipelineObserver:
    """Hears of the recognizer's work; every method does nothing here.

    All are called from the event loop, must be quick and must not raise.
    """

    def serve_model(
        self,
        name: str,  # noqa: ARG002
        version: str,  # noqa: ARG002
        provider: str,  # noqa: ARG002
    ) -> BatchObserver:
        """A model will be served; returns who hears of its batches."""
        return BatchObserver()

    def watch_images(self, count: Callable[[], int]) -> None:
        """Is given, once, a function that counts the images in decoding or waiting for it."""

    def image_rejected(self) -> None:
        """An image found no place in the queue for decoding."""

    def image_expired(self) -> None:
        """An image was not decoded by its deadline."""

    def image_cancelled(self) -> None:
        """An image's client left before it was decoded."""

    def image_prepared(self, decode_seconds: float, detect_seconds: float | None) -> None:
        """An image was decoded, and its faces found where a detector ran."""

    def face_rated(self, emotion: str) -> None:
        """A face was rated, with this as its dominant emotion."""
