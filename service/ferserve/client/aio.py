"""The client for programs with an event loop."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import httpx

from ferserve.benchmark.schemas import Against, BenchmarkDetails, BenchmarkJob, Progress, SplitName
from ferserve.client import calls
from ferserve.client.problems import checked
from ferserve.client.retries import Attempts, Retries
from ferserve.client.streams import stream_frames
from ferserve.inputs import ImageInput
from ferserve.interface import AsyncInterface
from ferserve.schemas import (
    DetectMode,
    EmotionResponse,
    ModelList,
    RecognizeOptions,
    StreamAnswer,
    StreamingOptions,
    StreamProblem,
)


class AsyncClient(AsyncInterface[EmotionResponse]):
    """Asks a service.

    Requests that were not carried out, and those that can be repeated without harm, are sent again
    for as long as ``retries`` says: after 429 and 503, and where a connection could not be made or
    broke.

    Args:
        base_url: Address of the service.
        api_key: Where the service wants one.
        retries: How long to try.
        timeout: Longest silence of the service in one attempt, seconds.
        http_options: More for ``httpx.AsyncClient``, such as ``verify`` or ``proxy``.
    """

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

    async def close(self) -> None:  # noqa: D102 - as AsyncInterface says
        await self._http.aclose()

    async def _recognize_file(self, data: bytes, options: RecognizeOptions) -> EmotionResponse:
        body = await self._ask(calls.recognize(data, options))
        return EmotionResponse.model_validate_json(body)

    def stream(
        self,
        frames: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        live: bool = False,
        **options: Unpack[StreamingOptions],
    ) -> AsyncGenerator[StreamAnswer | StreamProblem]:
        """Sends frames through one connection and yields the answers in order.

        Args:
            frames: A plain iterable, unless it is a collection, is asked in a thread.
            live: Send them as they come; the service then drops those it has no time for, and the
                answers say how many. Otherwise every frame is answered, and the next is only taken
                when there is room for it.
            options: As for ``recognize``; and ``smoothing_seconds``.

        Raises:
            Refusal: The service refused the stream.
            StreamClosed: It ended the stream, or the connection broke.
            OSError: It could not be reached.
        """
        url = calls.stream_url(self._base_url, options)
        return stream_frames(url, self._headers, frames, live, Attempts(self._retries))

    async def models(self) -> ModelList:  # noqa: D102 - as AsyncInterface says
        return ModelList.model_validate_json(await self._ask(calls.list_models()))

    async def benchmark(
        self,
        models: Sequence[str] = (),
        *,
        split: SplitName = "all",
        against: Against = "labels",
        limit: int | None = None,
        upload: str | os.PathLike[str] | bytes | None = None,
        detect: DetectMode = "false",
        progress: Callable[[Progress], object] | None = None,
    ) -> BenchmarkDetails:
        """Measures accuracy and waits for the result.

        Where the wait is interrupted the benchmark is cancelled.

        Args:
            models: Names; without any the default one.
            split: Part of the service's FER2013.
            against: Its labels, or the majority of people's votes.
            limit: Score only that many faces.
            upload: A zip of class folders, or its path, to measure on in place of FER2013.
            detect: Whether to look for faces in the images of the zip.
            progress: Is told twice a second how far the benchmark is.

        Returns:
            The job, with its ``result``.

        Raises:
            Refusal: The service refused, or there is no result: the benchmark failed, was
                cancelled, or was forgotten in a restart.
            httpx.TransportError: It could not be reached.
            OSError: The zip cannot be read.
        """
        if isinstance(upload, str | os.PathLike):
            upload = await asyncio.to_thread(Path(upload).read_bytes)
        body = await self._ask(calls.start_benchmark(models, split, against, limit, upload, detect))
        job = BenchmarkJob.model_validate_json(body)
        try:
            while True:
                body = await self._ask(calls.get_benchmark(job.id))
                details = BenchmarkDetails.model_validate_json(body)
                if progress:
                    progress(details.progress)
                if calls.has_ended(details):
                    return details
                await asyncio.sleep(calls.POLL_SECONDS)
        except asyncio.CancelledError:
            await self._ask(calls.cancel_benchmark(job.id))
            raise

    async def benchmark_report(self, job_id: str) -> str:
        """Returns the report of a benchmark that succeeded, a page of HTML.

        Raises:
            Refusal: There is none.
            httpx.TransportError: The service could not be reached.
        """
        return (await self._ask(calls.get_report(job_id))).decode()

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
                    data=call.data,
                    files=call.files,
                )
            except httpx.TransportError as error:
                if (pause := attempts.pause_after_error(error)) is None:
                    raise
            else:
                pause = attempts.pause_after_answer(response.status_code, response.headers)
                if pause is None:
                    return checked(response)
            await asyncio.sleep(pause)
