"""What scores: the ``AsyncRecognizer`` of the service, in an actor of Ray Data."""

import asyncio
from typing import Any

import pyarrow as pa
from pyarrow import fs

from ferserve import logs
from ferserve.bundle import ModelError
from ferserve.errors import InternalError, NotReady, PayloadTooLarge, Refusal
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import EmotionOptions, ModelReference, Recognition
from ferserve.score.outputs import OK, PROBLEM, SCHEMA
from ferserve.settings import Settings, usable_cpus

UNREADABLE = "unreadable_file"
"""Problem of a file that is gone or may not be read; the API has none such."""

A_DAY_MS = 86_400_000


class Scorer:
    """Scores batches, some at a time.

    Args:
        settings: With the one model.
        model: Which it must be.
        options: As for one image of the API.
        filesystem: Of the images, where they are files.

    Raises:
        ModelError: The model cannot be served, or the files of this machine are others.
    """

    def __init__(
        self,
        settings: Settings,
        model: ModelReference,
        options: EmotionOptions,
        filesystem: fs.FileSystem,
    ) -> None:
        logs.configure(settings.log_format)
        self._recognizer = AsyncRecognizer(settings)
        (card,) = self._recognizer.cards
        if card.sha256 != model.sha256:
            raise ModelError(
                f"{settings.models_dir}: {card.name} is another than that of the command"
            )
        self._model = model
        self._options = options
        self._filesystem = filesystem
        self._at_once = asyncio.Semaphore(2 * usable_cpus())
        self._starting = asyncio.Lock()
        self._started = False

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Scores images: ``id`` with ``path`` or ``image`` → rows of ``outputs.SCHEMA``."""
        async with self._starting:
            if not self._started:
                await self._recognizer.start()
                self._started = True
        rows = await asyncio.gather(*(self._score(row) for row in batch.to_pylist()))
        return pa.Table.from_pylist(rows, SCHEMA)

    async def _score(self, row: dict[str, Any]) -> dict[str, Any]:
        async with self._at_once:
            try:
                data = row["image"] if "image" in row else await self._read(row["path"])
                recognition = await self._recognizer.answer(data or b"", self._options)
            except (InternalError, NotReady):
                raise  # not this image's fault
            except OSError as error:
                return self._row(row["id"], code=UNREADABLE, detail=str(error.strerror or error))
            except Refusal as refusal:
                return self._row(row["id"], code=refusal.code, detail=refusal.detail)
        return self._row(row["id"], recognition)

    async def _read(self, path: str) -> bytes:
        return await asyncio.to_thread(self._read_now, path)

    def _read_now(self, path: str) -> bytes:
        most = self._recognizer.settings.max_upload_bytes
        with self._filesystem.open_input_file(path) as source:
            if source.size() > most:
                raise PayloadTooLarge(f"the file may have at most {most} bytes")
            data: bytes = source.read()
            return data

    def _row(
        self, id_: str, recognition: Recognition | None = None, code: str = "", detail: str = ""
    ) -> dict[str, Any]:
        return {
            "id": id_,
            "status": OK if recognition else PROBLEM,
            "problem_code": code or None,
            "problem_detail": detail or None,
            "faces": [face.model_dump() for face in recognition.faces] if recognition else None,
            "model_name": self._model.name,
            "model_version": self._model.version,
            "model_sha256": self._model.sha256,
        }


def unhurried(settings: Settings) -> Settings:
    """Returns settings for work that nobody waits for: places for all of it, and a day's time."""
    at_once = 2 * usable_cpus()
    return settings.model_copy(
        update={
            "request_timeout_ms": A_DAY_MS,
            "max_queue": max(settings.max_queue, at_once * settings.max_faces),
        }
    )
