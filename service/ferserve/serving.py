"""A served model: what is known of it, and what every inference goes through."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ferserve import faces
from ferserve.batcher import Batcher
from ferserve.metrics import Metrics
from ferserve.models import Model, Scores, available_models, load_models
from ferserve.preparation import FaceImage
from ferserve.sessions import CPU, ModelError, Runtime
from ferserve.settings import Settings, usable_cpus

DEFAULT_MODEL = "crowd"
"""Answers as most people would, at a fifteenth of the Custom CNN's work: see docs/results.md."""

GPU_WORKERS = 2
"""Batches under way at a time on a GPU: the next is prepared, and begun, while one runs."""

MAX_CPU_BATCH = 8
"""On the CPU larger batches are no faster a face, but each worker takes memory for one: with one
worker and VGG16 the process took 0.9 GB at 32 faces, 0.4 GB at 8."""

LINGER = 0.1
"""See ``Batcher``. With two workers of the Custom CNN at half of what they can bear, p99 was 65 ms
with it and 78 without, on a busy machine; at saturation there was no difference."""

CPU_ONE_BY_ONE = 3
"""See ``Batcher``. With two workers at half of what they can bear, the Custom CNN's p99 was 45 to
47 ms with 3 or 4, and 51 to 61 with 1; as many were answered at saturation. ResNet50V2, to which
batches matter more, takes 1.3 % more processor time with 3, and 3.8 % with 4."""

MAX_BACKGROUND_BATCH = 4
"""On the CPU, too: live requests wait for a background batch that is under way."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and what is in front of it.

    Attributes:
        model: The model.
        batcher: What every inference goes through.
        background_batch: Most faces of a batch that live requests may have to wait for.
        background_streams: Submissions of that many faces under way at a time that keep every
            worker busy; more do not fit in the background lane.
    """

    model: Model
    batcher: Batcher[FaceImage, Scores]
    background_batch: int
    background_streams: int


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
        metrics=metrics.serve_model(card.name, card.version, model.provider),
    )
    return ServedModel(model, batcher, background_batch, background_streams)


def served_names(settings: Settings) -> tuple[str, ...]:
    """Returns the names of the models to serve, the settings' or else all found.

    Raises:
        ModelError: There is none, or the default model is not among them.
    """
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


def default_name(settings: Settings, names: Iterable[str]) -> str:
    """Returns the model that answers requests that name none."""
    served = list(names)
    if settings.default_model:
        return settings.default_model
    return DEFAULT_MODEL if DEFAULT_MODEL in served else served[0]


def serve_models(settings: Settings, metrics: Metrics) -> dict[str, ServedModel]:
    """Loads and checks the models to serve, by name; raises as ``served_names`` does."""
    runtime = Runtime(
        provider=settings.provider,
        provider_options=settings.provider_options,
        intra_op_threads=settings.intra_op_threads,
        max_batch=settings.max_batch,
    )
    models = load_models(settings.models_dir, served_names(settings), runtime)
    return {name: serve_model(model, settings, metrics) for name, model in models.items()}


def load_detector(settings: Settings) -> faces.FaceDetector:
    """Loads the face detector.

    Raises:
        ModelError: It is missing or broken.
    """
    path = settings.models_dir / "face_detector.onnx"
    try:
        return faces.load_face_detector(path, settings.detect_max_side)
    except (FileNotFoundError, ValueError) as error:
        raise ModelError(f"{error}; FERSERVE_MODELS_DIR says where models are") from error
