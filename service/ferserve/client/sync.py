"""The client for programs that wait."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, Semaphore
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
from ferserve.client.streams import stream_frames
from ferserve.schemas import EmotionResponse, ModelList, StreamAnswer, StreamProblem


class FerserveClient:
    """Asks a service; may be used by several threads at once.

    Requests that were not carried out, and those that can be repeated without harm, are sent again
    for as long as ``retries`` says: after 429 and 503, and where a connection could not be made or
    broke.

    Args:
        base_url: Address of the service.
        api_key: Where the service wants one.
        retries: How long to try.
        timeout: Longest silence of the service in one attempt, seconds.
        http_options: More for ``httpx.Client``, such as ``verify`` or ``proxy``.
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
        self._http = httpx.Client(
            base_url=base_url, headers=self._headers, timeout=timeout, **http_options
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def recognize(
        self, image: ImageInput, **options: Unpack[calls.RecognizeOptions]
    ) -> EmotionResponse:
        """Finds the faces of an image and how their expressions appear.

        Raises:
            Refusal: The service refused.
            httpx.TransportError: It could not be reached.
            OSError: The file cannot be read.
        """
        body = self._ask(calls.recognize(as_bytes(image), options))
        return EmotionResponse.model_validate_json(body)

    def recognize_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[calls.RecognizeOptions],
    ) -> list[EmotionResponse | Exception]:
        """Asks for many images, in order: for each its answer or what ``recognize`` would raise.

        Args:
            images: Taken as they are needed, so they may be more than fit in memory.
            concurrency: Most requests under way.
            progress: Is told after each image how many are done, and of how many where that is
                known; by one thread at a time.
            options: As for ``recognize``.
        """
        total = len(images) if isinstance(images, Sized) else None
        places, reporting = Semaphore(concurrency), Lock()
        done = 0

        def answer(image: ImageInput) -> EmotionResponse | Exception:
            try:
                return self.recognize(image, **options)
            except Exception as error:
                return error
            finally:
                places.release()

        def report(_: object) -> None:
            nonlocal done
            with reporting:
                done += 1
                if progress:
                    progress(done, total)

        with ThreadPoolExecutor(concurrency, thread_name_prefix="ferserve-client") as pool:
            futures = []
            for image in images:
                places.acquire()
                futures.append(pool.submit(answer, image))
                futures[-1].add_done_callback(report)
            return [future.result() for future in futures]

    def stream(
        self,
        frames: Iterable[ImageInput],
        *,
        live: bool = False,
        **options: Unpack[calls.StreamingOptions],
    ) -> Iterator[StreamAnswer | StreamProblem]:
        """Sends frames through one connection and yields the answers in order.

        Args:
            frames: Taken by a thread of its own.
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

    def models(self) -> ModelList:
        """Returns the cards of the served models.

        Raises:
            Refusal: The service refused.
            httpx.TransportError: It could not be reached.
        """
        return ModelList.model_validate_json(self._ask(calls.list_models()))

    def benchmark(
        self,
        models: Sequence[str] = (),
        *,
        split: SplitName = "all",
        limit: int | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> BenchmarkResult:
        """Measures accuracy on the service's FER2013 and waits for the result.

        Where the wait is interrupted the benchmark is cancelled.

        Args:
            models: Names; without any the default one.
            split: Part of the data.
            limit: Score only that many faces.
            progress: Is told twice a second how far the benchmark is.

        Raises:
            Refusal: The service refused, or there is no result: the benchmark failed, was cancelled
                or forgotten in a restart.
            httpx.TransportError: It could not be reached.
        """
        call = calls.start_benchmark(models, split, limit)
        job = BenchmarkJob.model_validate_json(self._ask(call))
        try:
            while True:
                body = self._ask(calls.get_benchmark(job.id))
                details = BenchmarkDetails.model_validate_json(body)
                if progress:
                    progress(details.progress)
                if result := calls.finished_result(details):
                    return result
                time.sleep(calls.POLL_SECONDS)
        except KeyboardInterrupt:
            self._ask(calls.cancel_benchmark(job.id))
            raise

    def _ask(self, call: calls.Call) -> bytes:
        attempts = Attempts(self._retries, repeatable=call.repeatable)
        while True:
            try:
                response = self._http.request(
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
            time.sleep(pause)
