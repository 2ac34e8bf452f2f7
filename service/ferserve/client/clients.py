"""The clients: one for programs with an event loop, and one for programs that wait."""

import asyncio
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, Unpack

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ferserve.benchmark.schemas import Against, BenchmarkDetails, BenchmarkJob, Progress, SplitName
from ferserve.client.failures import (
    Attempts,
    Retries,
    StreamClosed,
    refusal_of_answer,
    refusal_of_problem,
    retry_after,
)
from ferserve.errors import RateLimited, Refusal, kind_of
from ferserve.inputs import MAX_FRAME_BYTES, ImageInput, as_bytes
from ferserve.interface import CLEAN_UP_SECONDS, AsyncInterface, Interface, each, waits
from ferserve.schemas import (
    DetectMode,
    EmotionResponse,
    ModelList,
    RecognizeOptions,
    StreamAnswer,
    StreamEnd,
    StreamingOptions,
    StreamProblem,
    StreamRefusal,
)

T = TypeVar("T", bound=BaseModel)

POLL_SECONDS = 1.0
"""Pause between two looks at a benchmark."""

WINDOW = 2
"""Most frames unanswered where none may be dropped: one is worked on, and one waits."""

LAST_MESSAGE = "end"

NORMAL, BROKEN = 1000, 1006
"""Close codes (RFC 6455, section 7.4.1)."""

_MESSAGES: TypeAdapter[StreamAnswer | StreamProblem | StreamRefusal | StreamEnd] = TypeAdapter(
    StreamAnswer | StreamProblem | StreamRefusal | StreamEnd
)


class AsyncClient(AsyncInterface[EmotionResponse]):
    """Asks a service.

    Requests that were not carried out, and those that can be repeated without harm, are sent again
    for as long as ``retries`` says: after 429 and 503, and where a connection could not be made or
    broke. A stream that was refused after it was opened is not.

    Args:
        base_url: Address of the service.
        api_key: Where the service wants one.
        retries: How long to try.
        timeout: Longest silence of the service in one attempt, seconds.
        http_options: More for ``httpx.AsyncClient``, such as ``verify`` or ``proxy``. Streams
            take only ``headers`` of them.
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
        self._headers = dict(http_options.pop("headers", None) or {})
        if api_key:  # HTTP clients send this header to no other host
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=self._headers, timeout=timeout, **http_options
        )

    async def close(self) -> None:  # noqa: D102 - as AsyncInterface says
        await self._http.aclose()

    async def _recognize_file(self, data: bytes, options: RecognizeOptions) -> EmotionResponse:
        request = {"params": _given(options), "content": data}
        return await self._ask_for(EmotionResponse, "POST", "/v1/emotion", **request)

    async def stream(
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
        socket = await self._connect(stream_url(self._base_url, options))
        room = None if live else asyncio.Semaphore(WINDOW - 1)
        fault: BaseException | None = None

        async def send() -> None:
            nonlocal fault
            try:
                async for frame in each(frames):
                    await socket.send(await asyncio.to_thread(as_bytes, frame, MAX_FRAME_BYTES))
                    if room:
                        await room.acquire()
                await socket.send(LAST_MESSAGE)
            except ConnectionClosed:
                pass  # the receiver is told as well
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # of the frames
                fault = error
                await socket.close()

        sending = asyncio.create_task(send())
        last_frame = 0
        try:
            while True:
                message = _MESSAGES.validate_json(await socket.recv())
                if isinstance(message, StreamRefusal):
                    headers = message.retry_after and {"Retry-After": str(message.retry_after)}
                    raise refusal_of_problem(message.problem, headers or None)
                if isinstance(message, StreamEnd):
                    continue
                if room:
                    for _ in range(message.frame - last_frame):
                        room.release()
                last_frame = message.frame
                yield message
        except ConnectionClosed as closed:
            if fault:
                raise fault from None
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (BROKEN, "")
            if code != NORMAL:
                raise StreamClosed(code, reason) from None
        finally:
            sending.cancel()
            await socket.close()

    async def models(self) -> ModelList:  # noqa: D102 - as AsyncInterface says
        return await self._ask_for(ModelList, "GET", "/v1/models")

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
            progress: Is told every second how far the benchmark is.

        Returns:
            The job, with its ``result``.

        Raises:
            Refusal: The service refused, or there is no result: the benchmark failed, was
                cancelled, or was forgotten in a restart.
            httpx.TransportError: It could not be reached.
            OSError: The zip cannot be read.
        """
        choice: dict[str, Any] = {"compare": list(models)}
        if limit is not None:
            choice["limit"] = limit
        body: dict[str, Any] = {"json": choice | {"split": split, "against": against}}
        if upload is not None:
            if not isinstance(upload, bytes):
                upload = await asyncio.to_thread(Path(upload).read_bytes)
            body = {"data": choice | {"detect": detect}, "files": {"file": upload}}
        # Sent again, it could start a second benchmark.
        started = await self._ask_for(
            BenchmarkJob, "POST", "/v1/benchmark", repeatable=False, **body
        )
        path = f"/v1/benchmark/{started.id}"
        try:
            while True:
                try:
                    job = await self._ask_for(BenchmarkDetails, "GET", path)
                except RateLimited as busy:  # perhaps by these very requests
                    await asyncio.sleep(retry_after(busy.headers))
                    continue
                if progress:
                    progress(job.progress)
                if job.status == "succeeded":
                    return job
                if job.status in ("failed", "cancelled"):
                    code = job.problem.code if job.problem else job.status
                    detail = job.problem.detail if job.problem else f"the benchmark was {code}"
                    raise kind_of(code)(detail, code=code)
                await asyncio.sleep(POLL_SECONDS)
        except asyncio.CancelledError:
            with suppress(Refusal, httpx.TransportError, TimeoutError):
                async with asyncio.timeout(CLEAN_UP_SECONDS):
                    await self._ask("DELETE", path)
            raise

    async def benchmark_report(self, job_id: str) -> str:
        """Returns the report of a benchmark that succeeded, a page of HTML.

        Raises:
            Refusal: There is none.
            httpx.TransportError: The service could not be reached.
        """
        return (await self._ask("GET", f"/v1/benchmark/{job_id}/report")).decode()

    async def _ask_for(self, kind: type[T], *request: Any, **more: Any) -> T:
        """Returns what ``_ask`` brings, as ``kind``."""
        body = await self._ask(*request, **more)
        try:
            return kind.model_validate_json(body)
        except ValidationError:  # another server's, perhaps at a wrong port
            raise refusal_of_answer(httpx.codes.OK, body, {}) from None

    async def _ask(
        self, method: str, path: str, *, repeatable: bool = True, **request: Any
    ) -> bytes:
        """Returns the body of a successful answer."""
        attempts = Attempts(self._retries, repeatable=repeatable)
        while True:
            try:
                answer = await self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if (pause := attempts.pause_after_error(error)) is None:
                    raise
            else:
                if answer.is_success:
                    return answer.content
                pause = attempts.pause_after_answer(answer.status_code, answer.headers)
                if pause is None:
                    raise refusal_of_answer(answer.status_code, answer.content, answer.headers)
            await asyncio.sleep(pause)

    async def _connect(self, url: str) -> ClientConnection:
        attempts = Attempts(self._retries)
        while True:
            try:
                return await connect(
                    url, additional_headers=self._headers, compression=None, max_size=None
                )
            except InvalidStatus as error:
                answer = error.response
                pause = attempts.pause_after_answer(answer.status_code, answer.headers)
                if pause is None:
                    body = bytes(answer.body or b"")
                    raise refusal_of_answer(answer.status_code, body, answer.headers) from None
            except (OSError, InvalidHandshake) as error:
                pause = attempts.pause()
                if pause is None and isinstance(error, OSError):
                    raise
                if pause is None:
                    raise ConnectionError(f"the handshake failed: {error}") from error
            await asyncio.sleep(pause)


def stream_url(base_url: str, options: StreamingOptions) -> str:
    """Returns the address of the stream, with the options in its query."""
    base = httpx.URL(base_url)
    return str(
        base.copy_with(
            scheme="wss" if base.scheme == "https" else "ws",
            path=f"{base.path.rstrip('/')}/v1/emotion/stream",
            params=_given(options),
        )
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are not left to the service."""
    return {name: value for name, value in options.items() if value is not None}


class Client(Interface[AsyncClient]):
    """Asks a service, as ``AsyncClient`` does, with the same arguments, results and errors."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        retries: Retries = Retries(),  # noqa: B008 - it cannot be changed
        timeout: float = 60.0,
        **http_options: Any,
    ) -> None:
        super().__init__(
            AsyncClient(base_url, api_key=api_key, retries=retries, timeout=timeout, **http_options)
        )

    def stream(
        self,
        frames: Iterable[ImageInput],
        *,
        live: bool = False,
        **options: Unpack[StreamingOptions],
    ) -> Iterator[StreamAnswer | StreamProblem]:
        """Sends frames through one connection; as ``AsyncClient.stream``."""
        answers = self._asynchronous.stream(frames, live=live, **options)
        try:
            while answer := self._wait(lambda: anext(answers, None)):
                yield answer
        finally:
            self._wait(answers.aclose)

    benchmark = waits(AsyncClient.benchmark)
    benchmark_report = waits(AsyncClient.benchmark_report)
