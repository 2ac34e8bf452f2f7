"""What a benchmark does: get the faces, run every model over them behind live traffic, score."""

import asyncio
import math
import uuid
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ferserve.benchmark import schemas
from ferserve.benchmark.archive import LabelledArchive, LabelledFile
from ferserve.benchmark.dataset import LabelledFaces, OperatorDataset, spread, uploaded_faces
from ferserve.benchmark.jobs import Job, JobQueue, Work
from ferserve.benchmark.results import Measurement, Outcome, summarise
from ferserve.errors import DatasetNotConfigured, Refusal
from ferserve.fer2013.labels import EMOTIONS
from ferserve.lanes import Lane
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import ModelReference

NO_DATASET = (
    "no FER2013 is configured: the operator sets FERSERVE_DATASET to the Kaggle zip, its folder or "
    "fer2013.csv, and restarts the service; or send a zip of class folders as multipart/form-data"
)
NO_VOTES = (
    "no votes are configured: the operator sets FERSERVE_VOTES to a CSV of FER+, and restarts"
)


class Benchmarks:
    """Starts benchmarks of a recognizer's models, through the batchers that live requests use.

    Each needs a place that ``queue.reserve`` holds.
    """

    def __init__(self, recognizer: AsyncRecognizer) -> None:
        self._recognizer = recognizer
        self._settings = settings = recognizer.settings
        self.queue = JobQueue()
        self.max_upload_bytes = settings.benchmark_max_upload_bytes
        path = settings.dataset
        self._dataset = OperatorDataset(path, settings.votes) if path else None

    def on_dataset(self, request: schemas.BenchmarkRequest) -> Job:
        """Queues a benchmark on the operator's data set; Refusal where it or a model is missing."""
        models = self._models(request)
        dataset = self._dataset
        if dataset is None:
            raise DatasetNotConfigured(NO_DATASET)
        if request.against == "votes" and not self._settings.votes:
            raise DatasetNotConfigured(NO_VOTES)

        async def work(job: Job) -> Outcome:
            job.advance("reading")
            faces = await asyncio.to_thread(dataset.select, request)
            return await self._measure_all(job, faces, keep_mistakes=True)

        return self._submit(work, "operator", models, request)

    async def on_upload(self, data: bytes, options: schemas.UploadOptions) -> Job:
        """Queues a benchmark on an uploaded zip; Refusal where it or a model cannot be used."""
        models = self._models(options)
        archive = await asyncio.to_thread(LabelledArchive, data, self._settings)
        files = [archive.files[index] for index in spread(len(archive.files), options.limit)]

        def crop(file: LabelledFile) -> NDArray[np.uint8] | str:
            try:
                face = self._recognizer.largest_face(archive.read(file), options.detect)
            except Refusal as refusal:
                return refusal.code
            return "no_face" if face is None else face

        async def work(job: Job) -> Outcome:
            started = monotonic()
            crops: list[NDArray[np.uint8] | str] = []
            for done, file in enumerate(files):
                rate = done / (monotonic() - started) if done else 0
                job.advance("preparing", done, len(files), rate=rate)
                crops.append(await asyncio.to_thread(crop, file))
            faces = uploaded_faces(archive, files, crops)
            return await self._measure_all(job, faces, keep_mistakes=options.thumbnails)

        return self._submit(work, "upload", models, options)

    def _models(self, choice: schemas.Choice) -> list[str]:
        names = (*([choice.model] if choice.model else []), *choice.compare)
        chosen = list(dict.fromkeys(names)) or [self._recognizer.default_model]
        for name in chosen:
            self._recognizer.served(name)
        return chosen

    def _submit(
        self, work: Work, source: schemas.Source, models: list[str], choice: schemas.Choice
    ) -> Job:
        job_id = uuid.uuid4().hex
        path = f"{self._settings.root_path}/v1/benchmark/{job_id}"
        state = schemas.BenchmarkDetails(
            id=job_id,
            source=source,
            models=models,
            links=schemas.Links(self=path, events=f"{path}/events", report=f"{path}/report"),
            **choice.model_dump(include={"split", "against", "limit", "detect"}),
        )
        return self.queue.submit(state, work)

    async def _measure_all(self, job: Job, data: LabelledFaces, *, keep_mistakes: bool) -> Outcome:
        measurements: list[Measurement] = []
        for name in job.state.models:
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
        batch_seconds: set[float] = set()  # equal only for the faces of one batch
        before, total = models_before * n, len(job.state.models) * n
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
                batch_seconds.update(answer.inference_seconds for answer in answers)
                done += len(answers)
                rate = done / (monotonic() - started)
                job.advance("scoring", before + done, total, model=name, rate=rate)

        async with asyncio.TaskGroup() as group:
            for _ in range(served.background_streams):
                group.create_task(stream())
        seconds = monotonic() - started
        in_order = [served.model.card.labels.index(emotion) for emotion in EMOTIONS]
        return Measurement(
            model=ModelReference.model_validate(served.model.card, from_attributes=True),
            provider=served.model.provider,
            probabilities=probabilities[:, in_order],
            batch_seconds=sorted(batch_seconds),
            seconds=seconds,
        )
