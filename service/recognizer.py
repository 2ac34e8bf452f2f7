"""The pipeline: bytes → image → faces → batcher → what is seen. Knows no HTTP."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fer2013.labels import FACE_SIDE
from service import faces
from service.batcher import Answer, Batcher, BatcherClosed, DeadlineExceeded, QueueFull
from service.bundle import CPU, ModelBundle, ModelError, available_models, load_bundle
from service.card import ModelCard
from service.images import DecodedImage, decode_image
from service.schemas import (
    Box,
    DetectMode,
    EmotionOptions,
    FaceEmotion,
    FaceWarning,
    ImageInfo,
    ModelReference,
    Point,
    Recognition,
    Timing,
)
from service.settings import Settings, usable_cpus

WHOLE_FACE_SIDE = 64
"""``detect=auto`` takes an image of at most this longer side as one face already, in pixels."""

MAX_BACKGROUND_BATCH = 4
"""On the CPU, where larger batches are no faster a face, but live requests wait for them longer."""

FaceImage = NDArray[np.uint8]
Scores = NDArray[np.float32]
T = TypeVar("T")


class UnknownModel(ValueError):  # noqa: N818 - named for the API's problem
    """No model of this name is served; the message lists those that are."""


class InvalidOption(ValueError):  # noqa: N818
    """An option is over a limit of the settings."""


@dataclass(frozen=True, slots=True)
class _FoundFace:
    """A face in the image and what the network will see of it."""

    crop: FaceImage
    box: Box
    confidence: float | None
    landmarks: list[Point] | None
    clipped: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What inference needs of an image, not its pixels, and the seconds this took."""

    image: ImageInfo
    faces: list[_FoundFace]
    waited: float
    decode: float
    detect: float


class ServedModel:
    """A model and the batcher in front of it.

    Attributes:
        bundle: The model.
        batcher: What every inference goes through.
        background_batch: Most faces of a batch that live requests may have to wait for.
        background_streams: Submissions of that many faces under way at a time that keep every
            worker busy; more do not fit in the background lane.
    """

    def __init__(self, bundle: ModelBundle, settings: Settings) -> None:
        self.bundle = bundle
        # Several single-threaded workers beat one many-threaded one on the CPU; a GPU is kept
        # busy by one, whose batches then are larger.
        workers = settings.inference_workers or (usable_cpus() if bundle.provider == CPU else 1)
        largest = MAX_BACKGROUND_BATCH if bundle.provider == CPU else settings.max_batch
        self.background_batch = min(largest, settings.max_batch)
        self.background_streams = 2 * workers
        self.batcher = Batcher[FaceImage, Scores](
            lambda crops: bundle.predict(np.stack(crops)),
            workers=workers,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            max_wait=settings.max_wait_ms / 1000,
            max_background_batch=self.background_batch,
            max_background_queue=self.background_batch * self.background_streams,
            name=bundle.card.name,
        )


class Recognizer:
    """Answers which faces an image has and how their expressions appear.

    Life: ``Recognizer(settings)`` loads and checks all files, ``await start()`` warms the models
    and takes work, ``begin_drain()`` announces the end, ``await close()`` finishes.

    Args:
        settings: Which models to serve, and all limits.

    Raises:
        ModelError: A model or the face detector cannot be served; the message says why.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._cpus = usable_cpus()
        self._detector = _load_detector(settings)
        self._models = _load_models(settings)
        self.default_model = settings.default_model or next(iter(self._models))
        self._pool = ThreadPoolExecutor(self._cpus, thread_name_prefix="decode")
        self._preparing = 0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._state = "starting"

    @property
    def cards(self) -> list[ModelCard]:
        """The cards of the served models."""
        return [model.bundle.card for model in self._models.values()]

    @property
    def not_ready_reason(self) -> str | None:
        """Why no more work should be sent here; None while all is well."""
        if self._state != "ready":
            return f"the service is {self._state}"
        dead = [name for name, model in self._models.items() if not model.batcher.healthy]
        return f"a worker died, of: {', '.join(dead)}" if dead else None

    async def start(self) -> None:
        """Warms every model and starts the workers; ready afterwards."""
        for model in self._models.values():
            await asyncio.to_thread(model.bundle.warm_up)
            model.batcher.start()
        await asyncio.to_thread(self._detector.detect, _blank_image(), 0.5, 1)
        self._state = "ready"

    def begin_drain(self) -> None:
        """Turns readiness off; work is still done until ``close``."""
        self._state = "shutting down"

    async def close(self) -> None:
        """Answers what was taken, for at most ``drain_seconds``, and stops all threads."""
        self.begin_drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.settings.drain_seconds)
        self._state = "stopped"
        await asyncio.gather(*(model.batcher.close() for model in self._models.values()))
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def recognize(self, data: bytes, options: EmotionOptions) -> Recognition:
        """Finds the faces of one image and their expressions.

        Cancelling the call drops the parts of its work that have not begun.

        Args:
            data: An image file's bytes.
            options: What the caller chose.

        Raises:
            UnknownModel: ``options.model`` is not served.
            InvalidOption: ``options.max_faces`` is over the limit.
            images.ImageError: The bytes are no image within the limits.
            batcher.QueueFull: Too much work is waiting.
            batcher.DeadlineExceeded: It took longer than the request timeout.
            batcher.BatcherClosed: The service has not started, has stopped, or a worker died.
            batcher.BatchFailed: The inference failed.
        """
        if self._state in ("starting", "stopped"):
            raise BatcherClosed(f"the service is {self._state}")
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._recognize(data, options)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def served(self, name: str) -> ServedModel:
        """Returns a model by name.

        Raises:
            UnknownModel: It is not served.
        """
        if name not in self._models:
            known = ", ".join(self._models)
            raise UnknownModel(f"there is no model {name!r}; the models are: {known}")
        return self._models[name]

    def largest_face(self, data: bytes, detect: DetectMode) -> FaceImage | None:
        """Cuts the largest face out of an image, as ``recognize`` would; blocks while it does.

        Args:
            data: An image file's bytes.
            detect: Whether to look for faces, as in ``EmotionOptions``.

        Returns:
            uint8 ``[48, 48]``, or None where no face is found.

        Raises:
            images.ImageError: The bytes are no image within the limits.
        """
        options = EmotionOptions(detect=detect)
        found = self._prepare(data, options, max_faces=1, submitted=monotonic()).faces
        return found[0].crop if found else None

    async def _recognize(self, data: bytes, options: EmotionOptions) -> Recognition:
        started = monotonic()
        deadline = started + self.settings.request_timeout_ms / 1000
        name = options.model or self.default_model
        model = self.served(name)
        max_faces = self._pick_max_faces(options.max_faces)
        prepared = await self._in_pool(
            lambda: self._prepare(data, options, max_faces, submitted=started), deadline
        )
        answers = await model.batcher.submit([face.crop for face in prepared.faces], deadline)
        card = model.bundle.card
        return Recognition(
            model=ModelReference(name=name, version=card.version, sha256=card.sha256),
            image=prepared.image,
            faces=[
                _describe(face, answer.value, model.bundle, options.landmarks)
                for face, answer in zip(prepared.faces, answers, strict=True)
            ],
            timing_ms=_timing(prepared, answers, monotonic() - started),
        )

    def _pick_max_faces(self, wanted: int | None) -> int:
        limit = self.settings.max_faces
        if wanted is not None and wanted > limit:
            raise InvalidOption(f"max_faces: Input should be at most {limit}")
        return wanted or limit

    async def _in_pool(self, work: Callable[[], T], deadline: float) -> T:
        """Runs ``work`` off the event loop, on as many threads as there are processors."""
        if self._preparing >= self.settings.max_queue:
            raise QueueFull(f"{self._preparing} images are waiting to be decoded")
        self._preparing += 1
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError:
            raise DeadlineExceeded("decoding and finding faces took too long") from None
        finally:
            self._preparing -= 1

    def _prepare(
        self, data: bytes, options: EmotionOptions, max_faces: int, submitted: float
    ) -> _Prepared:
        begun = monotonic()
        image = decode_image(data, self.settings.max_pixels)
        decoded = monotonic()
        found = (
            [_whole(image)]
            if _is_one_face(image, options.detect)
            else self._find_faces(image.rgb, options.min_face_confidence, max_faces)
        )
        return _Prepared(
            image=ImageInfo(
                width=image.width,
                height=image.height,
                format=image.format,
                exif_orientation=image.exif_orientation,
            ),
            faces=found,
            waited=begun - submitted,
            decode=decoded - begun,
            detect=monotonic() - decoded,
        )

    def _find_faces(
        self, rgb: NDArray[np.uint8], min_confidence: float, max_faces: int
    ) -> list[_FoundFace]:
        return [
            _FoundFace(
                crop=faces.crop_face(rgb, face.box),
                box=Box(x=face.box.x, y=face.box.y, width=face.box.width, height=face.box.height),
                confidence=face.confidence,
                landmarks=[Point(x=x, y=y) for x, y in face.landmarks.tolist()],
                clipped=face.clipped,
            )
            for face in self._detector.detect(rgb, min_confidence, max_faces)
        ]


def _load_models(settings: Settings) -> dict[str, ServedModel]:
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
    return {
        name: ServedModel(
            load_bundle(
                settings.models_dir,
                name,
                provider=settings.provider,
                device_id=settings.device_id,
                intra_op_threads=settings.intra_op_threads,
                max_batch=settings.max_batch,
            ),
            settings,
        )
        for name in names
    }


def _load_detector(settings: Settings) -> faces.FaceDetector:
    path = settings.models_dir / "face_detector.onnx"
    try:
        return faces.load_face_detector(path, settings.detect_max_side)
    except (FileNotFoundError, ValueError) as error:
        raise ModelError(f"{error}; FERSERVE_MODELS_DIR says where models are") from error


def _is_one_face(image: DecodedImage, detect: str) -> bool:
    if detect == "auto":
        return max(image.width, image.height) <= WHOLE_FACE_SIDE
    return detect == "false"


def _whole(image: DecodedImage) -> _FoundFace:
    return _FoundFace(
        crop=faces.whole_face(image.rgb),
        box=Box(x=0, y=0, width=image.width, height=image.height),
        confidence=None,
        landmarks=None,
        clipped=False,
    )


def _blank_image() -> NDArray[np.uint8]:
    return np.zeros((FACE_SIDE, FACE_SIDE, 3), np.uint8)


def _describe(
    face: _FoundFace, scores: Scores, bundle: ModelBundle, landmarks: bool
) -> FaceEmotion:
    emotions = dict(zip(bundle.labels, scores.tolist(), strict=True))
    dominant = max(emotions, key=emotions.__getitem__)
    confidence = emotions[dominant]
    warnings: list[FaceWarning] = []
    if max(face.box.width, face.box.height) < FACE_SIDE:
        warnings.append("small_face")
    if confidence < bundle.card.low_confidence_threshold:
        warnings.append("low_confidence")
    if face.clipped:
        warnings.append("clipped_face")
    described = FaceEmotion(
        box=face.box,
        face_confidence=face.confidence,
        dominant_emotion=dominant,
        confidence=confidence,
        emotions=emotions,
        warnings=warnings,
    )
    if landmarks:  # left unset, the answer has no such field
        described.landmarks = face.landmarks
    return described


def _timing(prepared: _Prepared, answers: list[Answer[Scores]], total: float) -> Timing:
    queued = max((answer.queue_seconds for answer in answers), default=0.0)
    inference = max((answer.inference_seconds for answer in answers), default=0.0)
    return Timing(
        decode=1000 * prepared.decode,
        detect=1000 * prepared.detect,
        queue=1000 * (prepared.waited + queued),
        inference=1000 * inference,
        total=1000 * total,
    )
