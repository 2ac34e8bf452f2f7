"""The client for programs with an event loop."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence, Sized
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from ferserve.benchmark.schemas import (
    BenchmarkDetails,
    BenchmarkJob,
    BenchmarkResult,
    Progress,
    SplitName,
)
from ferserve.client import calls
from ferserve.client.payloads import ImageInput, as_bytes
from ferserve.client.problems import checked
from ferserve.client.retries import Attempts, Retries
from ferserve.client.streams import stream_frames_async
from ferserve.schemas import EmotionResponse, ModelList, StreamAnswer, StreamProblem


class AsyncFerserveClient:
    """Asks a service, as ``FerserveClient`` does, with the same arguments, results and errors."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        retries: Retries = Retries(),  # noqa: B008 - it cannot be changed
        timeout: float = 60.0,
        **http_options: Any,
    ) -> None:
        self._base_url = base_url
        self._headers = calls.key_header(api_key)
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=self._headers, timeout=timeout, **http_options
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def recognize(
        self, image: ImageInput, **options: Unpack[calls.RecognizeOptions]
    ) -> EmotionResponse:
        """Finds the faces of an image and how their expressions appear."""
        data = await asyncio.to_thread(as_bytes, image)
        body = await self._ask(calls.recognize(data, options))
        return EmotionResponse.model_validate_json(body)

    async def recognize_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[calls.RecognizeOptions],
    ) -> list[EmotionResponse | Exception]:
        """Asks for many images, in order: for each its answer or what ``recognize`` would raise."""
        total = len(images) if isinstance(images, Sized) else None
        places = asyncio.Semaphore(concurrency)
        done = 0

        async def answer(image: ImageInput) -> EmotionResponse | Exception:
            nonlocal done
            try:
                return await self.recognize(image, **options)
            except Exception as error:
                return error
            finally:
                places.release()
                done += 1
                if progress:
                    progress(done, total)

        tasks = []
        async with asyncio.TaskGroup() as group:
            for image in images:
                await places.acquire()
                tasks.append(group.create_task(answer(image)))
        return [task.result() for task in tasks]

    def stream(
        self,
        frames: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        live: bool = False,
        **options: Unpack[calls.StreamingOptions],
    ) -> AsyncIterator[StreamAnswer | StreamProblem]:
        """Sends frames through one connection and yields the answers in order."""
        url = calls.stream_url(self._base_url, options)
        return stream_frames_async(url, self._headers, frames, live, Attempts(self._retries))

    async def models(self) -> ModelList:
        """Returns the cards of the served models."""
        return ModelList.model_validate_json(await self._ask(calls.list_models()))

    async def benchmark(
        self,
        models: Sequence[str] = (),
        *,
        split: SplitName = "all",
        limit: int | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> BenchmarkResult:
        """Measures accuracy on the service's FER2013 and waits for the result."""
        body = await self._ask(calls.start_benchmark(models, split, limit))
        job = BenchmarkJob.model_validate_json(body)
        try:
            while True:
                body = await self._ask(calls.get_benchmark(job.id))
                details = BenchmarkDetails.model_validate_json(body)
                if progress:
                    progress(details.progress)
                if result := calls.finished_result(details):
                    return result
                await asyncio.sleep(calls.POLL_SECONDS)
        except asyncio.CancelledError:
            await self._ask(calls.cancel_benchmark(job.id))
            raise

    async def _ask(self, call: calls.Call) -> bytes:
        attempts = Attempts(self._retries, repeatable=call.repeatable)
        while True:
            try:
                response = await self._http.request(
                    call.method,
                    call.path,
                    params=call.params,
                    content=call.content,
                    json=call.json,
                )
            except httpx.TransportError as error:
                if (pause := attempts.pause_after_error(error)) is None:
                    raise
            else:
                pause = attempts.pause_after_answer(response.status_code, response.headers)
                if pause is None:
                    return checked(response)
            await asyncio.sleep(pause)
