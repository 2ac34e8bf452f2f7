"""Prometheus metrics of one application, in a registry of its own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
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
    """Everything ``/metrics`` shows."""

    def __init__(self, *, count_emotions: bool = False) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        counter = partial(Counter, namespace="ferserve", registry=self.registry)
        gauge = partial(Gauge, namespace="ferserve", registry=self.registry)
        histogram = partial(Histogram, namespace="ferserve", registry=self.registry)
        by_lane = ["model", "lane"]
        self._requests = counter(
            "http_requests",
            "Requests answered; code 499 where the client left before.",
            ["method", "route", "code"],
        )
        self._latency = histogram(
            "http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["method", "route"],
            buckets=LATENCY,
        )
        self._images = counter("images_dropped", "Images that were not decoded.", ["reason"])
        self._preparation = histogram(
            "preparation_seconds",
            "Decoding of an image; finding its faces, where the detector ran.",
            ["stage"],
            buckets=WORK,
        )
        self._emotions = (
            counter("faces", "Faces rated, by dominant emotion.", ["emotion"])
            if count_emotions
            else None
        )
        self._models = gauge(
            "model_info", "1 for each served model.", ["model", "version", "provider"]
        )
        self._streams = counter("streams", "Streams by why they ended, or refused.", ["reason"])
        self._frames = counter("stream_frames", "Frames of streams.", ["outcome"])
        self._frame_latency = histogram(
            "stream_frame_seconds",
            "From a frame's arrival to its answer, of those that were not dropped.",
            buckets=LATENCY,
        )
        self._depth = gauge("queue_faces", "Faces waiting for inference.", by_lane)
        self._queue = histogram(
            "queue_seconds",
            "From a face's arrival at the queue to its batch.",
            by_lane,
            buckets=WORK,
        )
        self._inference = histogram(
            "inference_seconds", "Duration of a batch.", ["model"], buckets=WORK
        )
        self._size = histogram("batch_faces", "Faces in a batch.", by_lane, buckets=BATCH)
        self._released = counter(
            "batches",
            "Batches by why they were not kept waiting for more faces.",
            [*by_lane, "reason"],
        )
        self._dropped = counter(
            "faces_dropped", "Faces that were not answered.", [*by_lane, "reason"]
        )
        self._deaths = counter("worker_deaths", "Workers that died.", ["model"])
        # Shown as 0 from the start, so that a first increase is seen.
        for reason in get_args(Dropped):
            self._images.labels(reason)
        for stage in ("decode", "detect"):
            self._preparation.labels(stage)
        for outcome in ("answered", "refused", "dropped"):
            self._frames.labels(outcome)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Shows as ``ferserve_<name>`` what a function says at each look; once a name."""
        Gauge(f"ferserve_{name}", description, registry=self.registry).set_function(value)

    def request_done(self, method: str, route: str | None, code: int, seconds: float) -> None:
        """Counts a request; ``route`` is its template, None where there is none."""
        method = method if method in METHODS else "other"
        route = route or "other"
        self._requests.labels(method, route, code).inc()
        self._latency.labels(method, route).observe(seconds)

    def serve_model(self, name: str, version: str, provider: str) -> None:
        """Shows the model, and as 0 what it has not had yet."""
        self._models.labels(name, version, provider).set(1)
        self._deaths.labels(name)
        self._inference.labels(name)

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

    def watch_queue(self, model: str, lane: Lane, length: Callable[[], int]) -> None:
        """Shows how many faces wait in a lane."""
        self._depth.labels(model, lane.value).set_function(length)
        for reason in get_args(Dropped):
            self._dropped.labels(model, lane.value, reason)

    def batch_released(
        self, model: str, lane: Lane, queue_seconds: Sequence[float], reason: Release
    ) -> None:
        """Counts a batch that a worker took, and how long its faces had waited."""
        self._released.labels(model, lane.value, reason).inc()
        self._size.labels(model, lane.value).observe(len(queue_seconds))
        waits = self._queue.labels(model, lane.value)
        for seconds in queue_seconds:
            waits.observe(seconds)

    def batch_done(self, model: str, seconds: float) -> None:
        """Counts a batch that was computed, or failed."""
        self._inference.labels(model).observe(seconds)

    def faces_dropped(self, model: str, lane: Lane, reason: Dropped, faces: int) -> None:
        """Counts faces that were not answered."""
        self._dropped.labels(model, lane.value, reason).inc(faces)

    def worker_died(self, model: str) -> None:
        """Counts a worker that died."""
        self._deaths.labels(model).inc()
