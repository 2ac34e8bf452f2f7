"""The pipeline: bytes → image → faces → batcher → what is seen. Knows no HTTP."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from time import monotonic

from pydantic import ValidationError

from ferserve.errors import InvalidParameter, NotReady, UnknownModel, without_frames
from ferserve.fer2013.labels import FACE_SIDE
from ferserve.interface import AsyncInterface, Interface
from ferserve.lanes import Answer
from ferserve.metrics import Metrics
from ferserve.models import Model, Scores
from ferserve.pool import DecodeMemory, Share, WorkPool
from ferserve.preparation import FaceImage, FoundFace, Prepared, Preparer
from ferserve.schemas import (
    Box,
    DetectMode,
    EmotionOptions,
    FaceEmotion,
    FaceWarning,
    ModelList,
    ModelReference,
    Recognition,
    RecognizeOptions,
    Timing,
    describe_faults,
)
from ferserve.serving import IMAGE_WORK, ServedModel, default_name, load_detector, serve_models
from ferserve.settings import Settings, usable_cpus

PORTION = 64
"""Most faces of a call that wait at a time, so that those of others come in between."""


class AsyncRecognizer(AsyncInterface[Recognition]):
    """Answers which faces an image has and how their expressions appear, in this process.

    Making one loads and checks all files, ``start`` warms the models, ``close`` finishes; in
    between ``begin_drain`` may announce the end.

    Args:
        settings: Which models to serve, and all limits; by default those of the environment.
        metrics: Where everything is counted.

    Raises:
        ModelError: A model or the face detector cannot be served; the message says why.
    """

    def __init__(self, settings: Settings | None = None, metrics: Metrics | None = None) -> None:
        self.settings = settings = settings or Settings()
        self._metrics = metrics or Metrics()
        self._cpus = usable_cpus()
        memory = DecodeMemory(settings.decode_memory_bytes)
        self._preparer = Preparer(load_detector(settings), settings.max_pixels, memory)
        self._models = serve_models(settings, self._metrics)
        self.default_model = default_name(settings, self._models)
        longest = settings.request_timeout_ms / 1000
        self._pool = WorkPool(self._cpus, settings.max_queue, self._metrics, longest)
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._state = "starting"

    @property
    def not_ready_reason(self) -> str | None:
        """Why no more work should be sent here; None while all is well."""
        if self._state != "ready":
            return f"the service is {self._state}"
        if self._pool.overdue:
            return "every decoder is overdue"
        dead = [name for name, served in self._models.items() if not served.batcher.healthy]
        return f"a worker died: {', '.join(dead)}" if dead else None

    async def start(self) -> None:  # noqa: D102 - as AsyncInterface says
        if self._state != "starting":
            raise NotReady(f"the service is {self._state}")  # it starts once
        for served in self._models.values():
            await asyncio.to_thread(served.model.warm_up)
        await asyncio.to_thread(self._preparer.warm_up)
        if self._state == "starting":  # not closed meanwhile
            for served in self._models.values():
                served.batcher.start()
            self._state = "ready"

    def begin_drain(self) -> None:
        """Turns readiness off; work is still done until ``close``."""
        self._state = "shutting down"

    async def close(self) -> None:
        """Answers what was taken, for at most ``drain_seconds``, and stops all threads."""
        self._state = "stopped"  # takes no more: while others ask, it would never be idle
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.settings.drain_seconds)
        await asyncio.gather(*(served.batcher.close() for served in self._models.values()))
        await self._pool.close()

    @property
    def draining(self) -> bool:
        """Whether the end was announced."""
        return self._state in ("shutting down", "stopped")

    async def models(self) -> ModelList:  # noqa: D102 - as AsyncInterface says
        cards = [served.model.card for served in self._models.values()]
        return ModelList(default=self.default_model, models=cards)

    async def _recognize_file(self, data: bytes, options: RecognizeOptions) -> Recognition:
        try:
            chosen = EmotionOptions(**options)
        except ValidationError as error:
            raise InvalidParameter(describe_faults(error)) from None
        return await self.answer(data, chosen)

    def check(self, options: EmotionOptions) -> None:
        """Refuses options that suit no image: UnknownModel or InvalidParameter."""
        self.served(options.model or self.default_model)
        self._pick_max_faces(options.max_faces)

    async def answer(
        self,
        data: bytes,
        options: EmotionOptions,
        seconds: float | None = None,
        near: Sequence[Box] = (),
    ) -> Recognition:
        """Finds the faces of an image file and their expressions, or raises a Refusal.

        ``seconds`` is the time the caller has; without it, and at most, the request timeout.
        ``near`` is as in ``FaceDetector.detect``. Cancelling the call drops what has not begun.
        """
        with self._admitted():
            return await self._answer(data, options, self._deadline(seconds), near)

    async def answer_many(
        self, images: Sequence[bytes], options: EmotionOptions, seconds: float | None = None
    ) -> list[Recognition | Exception]:
        """Answers several images as ``answer``, in order: each with its result or what went wrong.

        Few images of a call are under way at a time, and none waits for a thread before those of
        others. The faces of all share batches. Once their work is the request's share, the rest
        get TooManyImages. Raises what concerns all images.
        """
        self.check(options)
        deadline = self._deadline(seconds)
        at_once = asyncio.Semaphore(2 * self._cpus)
        turn = asyncio.Semaphore(min(self._cpus, self.settings.max_queue))
        share = Share(IMAGE_WORK * self.settings.max_images)
        # Its images do not fill the queue of faces for each other: as many have room at a time as
        # could have all their faces in it. Those of one face need none where that leaves a place
        # for each.
        most, places = self._pick_max_faces(options.max_faces), self.settings.max_queue
        free = places - min(2 * self._cpus, len(images)) + 1
        room = asyncio.Semaphore((free if free >= most else places) // most)
        alone = 1 if free >= most else 0

        async def answer_one(data: bytes) -> Recognition | Exception:
            async with at_once:
                try:
                    return await self._answer(data, options, deadline, (), turn, room, alone, share)
                except Exception as error:
                    return without_frames(error)

        with self._admitted():
            # A group, not gather: when the call is cancelled it waits until all have ended.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer_one(data)) for data in images]
        return [task.result() for task in tasks]

    async def rate(
        self, name: str, faces: Sequence[FaceImage], seconds: float | None = None
    ) -> list[Answer[Scores]]:
        """Rates faces that are cut out already, uint8 ``[48, 48]`` each, as ``answer`` does.

        Returns float32 ``[7]`` for each, in order; columns in the order of the model's labels.
        """
        served, deadline = self.served(name), self._deadline(seconds)
        answers: list[Answer[Scores]] = []
        with self._admitted():
            for start in range(0, len(faces), PORTION):
                portion = faces[start : start + PORTION]
                answers += await served.batcher.submit(portion, deadline)
        for answer in answers:
            self._metrics.face_rated(served.model.card.labels[answer.value.argmax()])
        return answers

    def served(self, name: str) -> ServedModel:
        """Returns a model by name, or raises UnknownModel."""
        if name not in self._models:
            known = ", ".join(self._models)
            raise UnknownModel(f"there is no model {name!r}; the models are: {known}")
        return self._models[name]

    def largest_face(self, data: bytes, detect: DetectMode) -> FaceImage | None:
        """Cuts the largest face out of an image, as ``answer`` would; blocks while it does.

        Returns uint8 ``[48, 48]``, or None where no face is found. Refuses as ``decode_image``, and
        waits for memory however long other images take it.
        """
        options = EmotionOptions(detect=detect)
        found = self._preparer.prepare(data, options, max_faces=1, submitted=monotonic()).faces
        return found[0].crop if found else None

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Counts what is under way, which ``close`` waits for."""
        if self._state in ("starting", "stopped"):
            raise NotReady(f"the service is {self._state}")
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _deadline(self, seconds: float | None) -> float:
        longest = self.settings.request_timeout_ms / 1000
        return monotonic() + (longest if seconds is None else min(seconds, longest))

    async def _answer(
        self,
        data: bytes,
        options: EmotionOptions,
        deadline: float,
        near: Sequence[Box] = (),
        turn: asyncio.Semaphore | None = None,
        room: asyncio.Semaphore | None = None,
        alone: int = 0,
        share: Share | None = None,
    ) -> Recognition:
        started = monotonic()
        name = options.model or self.default_model
        served = self.served(name)
        max_faces = self._pick_max_faces(options.max_faces)
        work = partial(
            self._preparer.prepare, data, options, max_faces, started, near, share, deadline
        )
        quick = self._preparer.is_quick(data, options)
        async with turn or contextlib.nullcontext():
            prepared = work() if quick else await self._pool.run(work, deadline)
        self._metrics.image_prepared(
            prepared.decode, prepared.detect if prepared.detector_ran else None
        )
        if share:
            share.take(len(prepared.faces) * served.face_work, begun=True)
        crowded = room if len(prepared.faces) > alone else None
        async with crowded or contextlib.nullcontext():
            answers = await served.batcher.submit([face.crop for face in prepared.faces], deadline)
        card = served.model.card
        faces = [
            _describe(face, answer.value, served.model, options.landmarks)
            for face, answer in zip(prepared.faces, answers, strict=True)
        ]
        for face in faces:
            self._metrics.face_rated(face.dominant_emotion)
        return Recognition(
            model=ModelReference(name=name, version=card.version, sha256=card.sha256),
            image=prepared.image,
            faces=faces,
            timing_ms=_timing(prepared, answers, monotonic() - started),
        )

    def _pick_max_faces(self, wanted: int | None) -> int:
        limit = self.settings.max_faces
        if wanted is not None and wanted > limit:
            raise InvalidParameter(f"max_faces: Input should be at most {limit}")
        return wanted or limit


class Recognizer(Interface[AsyncRecognizer]):
    """Recognizes in this process, as ``AsyncRecognizer`` does, for programs that wait.

    Args:
        settings: Which models to load, and all limits; by default those of the environment.

    Raises:
        ModelError: A model or the face detector cannot be used; the message says why.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(AsyncRecognizer(settings))


def _describe(face: FoundFace, scores: Scores, model: Model, landmarks: bool) -> FaceEmotion:
    emotions = dict(zip(model.card.labels, scores.tolist(), strict=True))
    dominant = max(emotions, key=emotions.__getitem__)
    confidence = emotions[dominant]
    warnings: list[FaceWarning] = []
    if face.side < FACE_SIDE:
        warnings.append("small_face")
    if confidence < model.card.low_confidence_threshold:
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


def _timing(prepared: Prepared, answers: list[Answer[Scores]], total: float) -> Timing:
    queued = max((answer.queue_seconds for answer in answers), default=0.0)
    inference = max((answer.inference_seconds for answer in answers), default=0.0)
    return Timing(
        decode=1000 * prepared.decode,
        detect=1000 * prepared.detect,
        queue=1000 * (prepared.waited + queued),
        inference=1000 * inference,
        total=1000 * total,
    )
