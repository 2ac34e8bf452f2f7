"""What a benchmark does: get the faces, run every model over them below live traffic, score."""

import asyncio
import logging
import math
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any

import numpy as np

from ferserve.batcher import Lane
from ferserve.benchmark.archive import ArchiveLimits, LabelledArchive
from ferserve.benchmark.dataset import LabelledFaces, OperatorDataset, UploadReader
from ferserve.benchmark.jobs import Job, JobQueue, JobSpec
from ferserve.benchmark.results import Measurement, Outcome, summarise
from ferserve.benchmark.schemas import BenchmarkRequest, UploadOptions
from ferserve.errors import Refusal
from ferserve.fer2013.dataset import DatasetError
from ferserve.fer2013.labels import EMOTIONS
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import ModelReference

FILES_AT_A_TIME = 8
"""Uploaded files decoded between two looks at whether the job was cancelled."""

logger = logging.getLogger(__name__)


class Benchmarks:
    """Starts benchmarks.

    Args:
        recognizer: Its models are measured, through the batchers that live requests use.
        queue: Runs the jobs.

    Attributes:
        queue: The jobs.
        max_upload_bytes: Largest body of an upload.
    """

    def __init__(self, recognizer: AsyncRecognizer, queue: JobQueue) -> None:
        settings = recognizer.settings
        self.queue = queue
        self.max_upload_bytes = settings.benchmark_max_upload_bytes
        self._recognizer = recognizer
        self._dataset = (
            OperatorDataset(settings.dataset, settings.votes) if settings.dataset else None
        )
        self._limits = ArchiveLimits(
            entries=settings.benchmark_max_entries,
            unpacked_bytes=settings.benchmark_max_unpacked_bytes,
            file_bytes=settings.max_upload_bytes,
        )

    @property
    def has_dataset(self) -> bool:
        """Whether the operator has set a data set."""
        return self._dataset is not None

    @property
    def has_votes(self) -> bool:
        """Whether the operator has set votes about its faces."""
        return self._recognizer.settings.votes is not None

    def on_dataset(self, request: BenchmarkRequest) -> Job:
        """Queues a benchmark on the operator's data set, which must be there, as must its votes.

        Raises:
            UnknownModel: A model is not served.
            QueueFull: The queue is full.
            NotReady: The service is shutting down.
        """
        dataset = self._dataset
        if dataset is None:
            raise ValueError("there is no data set")
        spec = JobSpec(self._models(request), request.split, request.limit, against=request.against)

        async def work(job: Job) -> Outcome:
            job.advance("reading", 0, 0)
            try:
                chosen = await asyncio.to_thread(
                    dataset.select, request.split, request.limit, request.against
                )
            except DatasetError as error:
                logger.error("the data set cannot be read: %s", error)  # callers see no path
                detail = "the operator's data set cannot be read; the service's log says why"
                raise Refusal(detail, code="unreadable_dataset") from error
            return await self._measure_all(job, chosen, keep_mistakes=True)

        return self.queue.submit(spec, work)

    def open_archive(self, data: bytes) -> LabelledArchive:
        """Checks an uploaded zip; takes a while for a large one.

        Raises:
            Refusal: The zip cannot be used.
        """
        return LabelledArchive(data, self._limits)

    def on_upload(self, archive: LabelledArchive, options: UploadOptions) -> Job:
        """Queues a benchmark on an uploaded zip.

        Raises:
            UnknownModel: A model is not served.
            QueueFull: The queue is full.
            NotReady: The service is shutting down.
        """
        spec = JobSpec(self._models(options), limit=options.limit, detect=options.detect)
        reader = UploadReader(
            archive,
            lambda data: self._recognizer.largest_face(data, options.detect),
            options.limit,
        )

        async def work(job: Job) -> Outcome:
            started = monotonic()
            files = reader.files
            for done in range(0, len(files), FILES_AT_A_TIME):
                rate = done / (monotonic() - started) if done else None
                job.advance("preparing", done, len(files), rate=rate)
                await asyncio.to_thread(reader.read, files[done : done + FILES_AT_A_TIME])
            return await self._measure_all(job, reader.result(), keep_mistakes=options.thumbnails)

        return self.queue.submit(spec, work)

    def check_models(self, request: BenchmarkRequest | UploadOptions) -> None:
        """Raises UnknownModel if a model is not served."""
        self._models(request)

    def _models(self, request: BenchmarkRequest | UploadOptions) -> tuple[str, ...]:
        names = (*([request.model] if request.model else []), *request.compare)
        chosen = tuple(dict.fromkeys(names)) or (self._recognizer.default_model,)
        for name in chosen:
            self._recognizer.served(name)
        return chosen

    async def _measure_all(self, job: Job, data: LabelledFaces, *, keep_mistakes: bool) -> Outcome:
        measurements: list[Measurement] = []
        for name in job.spec.models:
            measurements.append(await self._measure(job, name, data, len(measurements)))
        return await asyncio.to_thread(summarise, measurements, data, keep_mistakes)

    async def _measure(
        self, job: Job, name: str, data: LabelledFaces, models_before: int
    ) -> Measurement:
        """Runs one model over all faces; feeds every worker, and yields to live requests."""
        served = self._recognizer.served(name)
        faces, n = data.faces, len(data.faces)
        size = served.background_batch
        probabilities = np.empty((n, len(EMOTIONS)), np.float32)
        batch_seconds = np.empty(n, np.float64)
        before, total = models_before * n, len(job.spec.models) * n
        starts = iter(range(0, n, size))
        done = 0
        started = monotonic()
        job.advance("scoring", before, total, model=name)

        async def stream() -> None:
            nonlocal done
            for start in starts:  # shared: each stream takes the next chunk when it is free
                chunk = slice(start, start + size)
                answers = await served.batcher.submit(list(faces[chunk]), math.inf, Lane.BACKGROUND)
                probabilities[chunk] = [answer.value for answer in answers]
                batch_seconds[chunk] = [answer.inference_seconds for answer in answers]
                done += len(answers)
                rate = done / (monotonic() - started)
                job.advance("scoring", before + done, total, model=name, rate=rate)

        await _together([stream() for _ in range(served.background_streams)])
        seconds = monotonic() - started
        card = served.model.card
        in_order = [served.model.labels.index(emotion) for emotion in EMOTIONS]
        return Measurement(
            model=ModelReference(name=name, version=card.version, sha256=card.sha256),
            provider=served.model.provider,
            probabilities=probabilities[:, in_order],
            batch_seconds=batch_seconds,
            seconds=seconds,
        )


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Awaits all; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
