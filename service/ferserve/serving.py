"""A served model: what is known of it, and what every inference goes through."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ferserve.batcher import Batcher
from ferserve.faces import FaceDetector, load_face_detector
from ferserve.metrics import Metrics
from ferserve.models import Model, Scores, available_models, load_model
from ferserve.preparation import FaceImage
from ferserve.sessions import CPU, ModelError, Runtime
from ferserve.settings import Settings, usable_cpus

DEFAULT_MODEL = "crowd"
"""Answers as most people would, at a fifteenth of the Custom CNN's work: see docs/results.md."""

GPU_WORKERS = 2
"""Batches under way at a time on a GPU: the next is prepared, and begun, while one runs."""

MAX_CPU_BATCH = 8
"""On the CPU larger batches are no faster a face, but each worker takes memory for one: with one
worker and VGG16 at 96 pixels the process took 0.9 GB at 32 faces, 0.4 GB at 8."""

LINGER = 0.1
"""See ``Batcher``. With two workers of the Custom CNN at half of what they can bear, p99 was 65 ms
with it and 78 without, on a busy machine; at saturation there was no difference."""

CPU_ONE_BY_ONE = 3
"""See ``Batcher``. With two workers at half of what they can bear, the Custom CNN's p99 was 45 to
47 ms with 3 or 4, and 51 to 61 with 1; as many were answered at saturation. ResNet50V2, to which
batches matter more, takes 1.3 % more processor time with 3, and 3.8 % with 4."""

IMAGE_WORK = 3_300_000
"""A request's share for each image it may have, in pixels decoded, of 30 ns each: a photo of 12
megapixels takes up to 2.9 million, a face for the Custom CNN 0.8."""

MAX_BACKGROUND_BATCH = 4
"""On the CPU only: live requests wait for a background batch that is under way."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and the batcher that every inference goes through.

    Attributes:
        background_batch: Most faces of a batch that live requests may have to wait for.
        background_streams: Submissions of that many faces under way at a time that keep every
            worker busy; more do not fit in the background lane.
        face_work: What a face takes, in pixels decoded; 0 on a GPU.
    """

    model: Model
    batcher: Batcher[FaceImage, Scores]
    background_batch: int
    background_streams: int
    face_work: int


def serve_model(model: Model, settings: Settings, metrics: Metrics) -> ServedModel:
    """Puts a batcher in front of a model; decides its workers and the size of its batches."""
    # Several single-threaded workers beat one many-threaded one on the CPU. For a GPU they are
    # few, so that its batches are large: one more than computes, to have the next batch ready.
    on_cpu = model.provider == CPU
    workers = settings.inference_workers or (usable_cpus() if on_cpu else GPU_WORKERS)
    max_batch = min(settings.max_batch, MAX_CPU_BATCH) if on_cpu else settings.max_batch
    background_batch = min(max_batch, MAX_BACKGROUND_BATCH) if on_cpu else max_batch
    background_streams = 2 * workers
    card = model.card
    batcher = Batcher[FaceImage, Scores](
        lambda crops: model.predict(np.stack(crops)),
        workers=workers,
        max_batch=max_batch,
        max_queue=settings.max_queue,
        max_wait=settings.max_wait_ms / 1000,
        linger=LINGER,
        one_by_one=CPU_ONE_BY_ONE if on_cpu else 0,
        max_background_batch=background_batch,
        max_background_queue=background_batch * background_streams,
        name=card.name,
        metrics=metrics,
    )
    metrics.serve_model(card.name, card.version, model.provider)
    face_work = (card.multiply_adds or 0) // 1200 if on_cpu else 0
    return ServedModel(model, batcher, background_batch, background_streams, face_work)


def served_names(settings: Settings) -> tuple[str, ...]:
    """Returns the settings' models or else all found; ModelError where the default is missing."""
    names = settings.models or tuple(available_models(settings.models_dir))
    if not names:
        raise ModelError(
            f"{settings.models_dir}: holds no model (<name>.onnx with <name>.json); "
            "FERSERVE_MODELS_DIR says where models are"
        )
    if settings.default_model and settings.default_model not in names:
        raise ModelError(
            f"the default model {settings.default_model!r} is not served; "
            f"the models are: {', '.join(names)}"
        )
    return names


def default_name(settings: Settings, names: Collection[str]) -> str:
    """Returns the model that answers requests that name none."""
    usual = DEFAULT_MODEL if DEFAULT_MODEL in names else next(iter(names))
    return settings.default_model or usual


def serve_models(settings: Settings, metrics: Metrics) -> dict[str, ServedModel]:
    """Loads and checks the models to serve, by name; ModelError where one cannot be served."""
    runtime = Runtime(
        provider=settings.provider,
        provider_options=settings.provider_options,
        intra_op_threads=settings.intra_op_threads,
        max_batch=settings.max_batch,
    )
    return {
        name: serve_model(load_model(settings.models_dir, name, runtime), settings, metrics)
        for name in served_names(settings)
    }


def load_detector(settings: Settings) -> FaceDetector:
    """Loads the face detector; ModelError where it is missing or broken."""
    return load_face_detector(settings.models_dir / "face_detector.onnx", settings.detect_max_side)
