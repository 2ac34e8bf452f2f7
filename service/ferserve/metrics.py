"""Prometheus metrics of one application, in a registry of its own."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from ferserve.lanes import Lane, Release

LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Buckets of whole requests, seconds: a CPU's small face takes 10 ms, the default limit is 10 s."""

WORK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets of queueing and inference, seconds: a GPU's batch takes a millisecond."""

BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Dropped = Literal["rejected", "expired", "cancelled"]
"""There was no place, it was too late, or the client left."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are counted as one: callers must not be able to make up label values."""


class Metrics:
    """Everything ``/metrics`` shows.

    Args:
        count_emotions: Whether faces are counted by dominant emotion.

    Attributes:
        registry: Holds all of them.
    """

    def __init__(self, *, count_emotions: bool = False) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        by_lane = ["model", "lane"]
        self._requests = counter(
            "ferserve_http_requests",
            "Requests answered; code 499 where the client left before.",
            ["method", "route", "code"],
        )
        self._latency = histogram(
            "ferserve_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["method", "route"],
            buckets=LATENCY,
        )
        self._images = counter(
            "ferserve_images_dropped", "Images that were not decoded.", ["reason"]
        )
        self._preparation = histogram(
            "ferserve_preparation_seconds",
            "Decoding of an image; finding its faces, where the detector ran.",
            ["stage"],
            buckets=WORK,
        )
        self._emotions = (
            counter("ferserve_faces", "Faces rated, by dominant emotion.", ["emotion"])
            if count_emotions
            else None
        )
        self._models = Gauge(
            "ferserve_model_info",
            "1 for each served model.",
            ["model", "version", "provider"],
            registry=self.registry,
        )
        self._streams = counter(
            "ferserve_streams", "Streams by why they ended, or refused.", ["reason"]
        )
        self._frames = counter("ferserve_stream_frames", "Frames of streams.", ["outcome"])
        self._frame_latency = histogram(
            "ferserve_stream_frame_seconds",
            "From a frame's arrival to its answer, of those that were not dropped.",
            buckets=LATENCY,
        )
        self.depth = Gauge(
            "ferserve_queue_faces", "Faces waiting for inference.", by_lane, registry=self.registry
        )
        self.queue = histogram(
            "ferserve_queue_seconds",
            "From a face's arrival at the queue to its batch.",
            by_lane,
            buckets=WORK,
        )
        self.inference = histogram(
            "ferserve_inference_seconds", "Duration of a batch.", ["model"], buckets=WORK
        )
        self.size = histogram("ferserve_batch_faces", "Faces in a batch.", by_lane, buckets=BATCH)
        self.released = counter(
            "ferserve_batches",
            "Batches by why they were not kept waiting for more faces.",
            [*by_lane, "reason"],
        )
        self.dropped = counter(
            "ferserve_faces_dropped", "Faces that were not answered.", [*by_lane, "reason"]
        )
        self.deaths = counter("ferserve_worker_deaths", "Workers that died.", ["model"])
        # Shown as 0 from the start, so that a first increase is seen.
        for reason in get_args(Dropped):
            self._images.labels(reason)
        for stage in ("decode", "detect"):
            self._preparation.labels(stage)
        for outcome in ("answered", "refused", "dropped"):
            self._frames.labels(outcome)

    def render(self) -> bytes:
        """Returns all in Prometheus' text format."""
        return generate_latest(self.registry)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Shows as ``ferserve_<name>`` what a function says at each look; once a name."""
        Gauge(f"ferserve_{name}", description, registry=self.registry).set_function(value)

    def request_done(self, method: str, route: str | None, code: int, seconds: float) -> None:
        """Counts a request; ``route`` is its template, None where there is none."""
        method = method if method in METHODS else "other"
        route = route or "other"
        self._requests.labels(method, route, code).inc()
        self._latency.labels(method, route).observe(seconds)

    def serve_model(self, name: str, version: str, provider: str) -> "BatchMetrics":
        """Shows the model, and returns who counts its batches."""
        self._models.labels(name, version, provider).set(1)
        return BatchMetrics(self, name)

    def image_dropped(self, reason: Dropped) -> None:
        """Counts an image that was not decoded."""
        self._images.labels(reason).inc()

    def image_prepared(self, decode_seconds: float, detect_seconds: float | None) -> None:
        """Counts an image's two stages before inference."""
        self._preparation.labels("decode").observe(decode_seconds)
        if detect_seconds is not None:
            self._preparation.labels("detect").observe(detect_seconds)

    def stream_ended(self, reason: str) -> None:
        """Counts a stream."""
        self._streams.labels(reason).inc()

    def frame_answered(self, seconds: float, *, refused: bool) -> None:
        """Counts a frame with a result or a problem."""
        self._frames.labels("refused" if refused else "answered").inc()
        self._frame_latency.observe(seconds)

    def frame_dropped(self) -> None:
        """Counts a frame that was not answered."""
        self._frames.labels("dropped").inc()

    def face_rated(self, emotion: str) -> None:
        """Counts a face, where the operator wants this."""
        if self._emotions:
            self._emotions.labels(emotion).inc()


class BatchMetrics:
    """Counts one model's batches.

    ``batch_released``, ``batch_done`` and ``worker_died`` are called from worker threads, the
    others from the event loop.
    """

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._deaths = metrics.deaths.labels(model)
        self._inference = metrics.inference.labels(model)
        # Prometheus looks a child up in 3 µs, all of which hold the interpreter's lock.
        self._released = cache(partial(metrics.released.labels, model))
        self._size = cache(partial(metrics.size.labels, model))
        self._queue = cache(partial(metrics.queue.labels, model))

    def watch_queue(self, lane: Lane, length: Callable[[], int]) -> None:
        """Shows how many items wait in a lane."""
        self._metrics.depth.labels(self._model, lane.value).set_function(length)
        for reason in get_args(Dropped):
            self._metrics.dropped.labels(self._model, lane.value, reason)

    def batch_released(self, lane: Lane, queue_seconds: Sequence[float], reason: Release) -> None:
        """Counts a batch that a worker took, and how long its items had waited."""
        self._released(lane.value, reason).inc()
        self._size(lane.value).observe(len(queue_seconds))
        waits = self._queue(lane.value)
        for seconds in queue_seconds:
            waits.observe(seconds)

    def batch_done(self, inference_seconds: float) -> None:
        """Counts a batch that was computed, or failed."""
        self._inference.observe(inference_seconds)

    def dropped(self, lane: Lane, reason: Dropped, items: int) -> None:
        """Counts items that were not answered."""
        self._metrics.dropped.labels(self._model, lane.value, reason).inc(items)

    def worker_died(self) -> None:
        """Counts a worker that died."""
        self._deaths.inc()
