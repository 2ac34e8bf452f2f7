"""The client for programs that wait."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Unpack

from ferserve.benchmark.schemas import Against, BenchmarkDetails, Progress, SplitName
from ferserve.client.aio import AsyncClient
from ferserve.client.retries import Retries
from ferserve.inputs import ImageInput
from ferserve.interface import Interface
from ferserve.schemas import (
    DetectMode,
    EmotionResponse,
    StreamAnswer,
    StreamingOptions,
    StreamProblem,
)


class Client(Interface[EmotionResponse]):
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
        self._client = AsyncClient(
            base_url, api_key=api_key, retries=retries, timeout=timeout, **http_options
        )
        super().__init__(self._client)

    def stream(
        self,
        frames: Iterable[ImageInput],
        *,
        live: bool = False,
        **options: Unpack[StreamingOptions],
    ) -> Iterator[StreamAnswer | StreamProblem]:
        """Sends frames through one connection; as ``AsyncClient.stream``."""
        answers = self._client.stream(frames, live=live, **options)
        try:
            while answer := self._wait(lambda: anext(answers, None)):
                yield answer
        finally:
            self._wait(answers.aclose)

    def benchmark(
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
        """Measures accuracy and waits for the result; as ``AsyncClient.benchmark``."""
        return self._wait(
            lambda: self._client.benchmark(
                models,
                split=split,
                against=against,
                limit=limit,
                upload=upload,
                detect=detect,
                progress=progress,
            )
        )

    def benchmark_report(self, job_id: str) -> str:
        """Returns a benchmark's report; as ``AsyncClient.benchmark_report``."""
        return self._wait(lambda: self._client.benchmark_report(job_id))
