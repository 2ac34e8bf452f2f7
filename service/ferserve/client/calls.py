"""The requests that both clients send. No input or output happens here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from ferserve.benchmark.schemas import Against, BenchmarkDetails, SplitName
from ferserve.errors import kind_of
from ferserve.schemas import DetectMode, RecognizeOptions, StreamingOptions

Query = dict[str, str | int | float]

POLL_SECONDS = 0.5
"""Pause between two looks at a benchmark."""


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        repeatable: Whether a second one does no harm.
    """

    method: str
    path: str
    params: Query = field(default_factory=dict)
    content: bytes | None = None
    json: Any = None
    data: Any = None
    files: Any = None
    repeatable: bool = True


def recognize(image: bytes, options: RecognizeOptions) -> Call:
    """Asks for the faces of an image; it may be asked again, for nothing is kept."""
    return Call("POST", "/v1/emotion", params=_query(options), content=image)


def list_models() -> Call:
    """Asks for the models' cards."""
    return Call("GET", "/v1/models")


def start_benchmark(
    models: Sequence[str],
    split: SplitName,
    against: Against,
    limit: int | None,
    upload: bytes | None,
    detect: DetectMode,
) -> Call:
    """Asks for a benchmark. Twice asked, there would be two."""
    if upload is None:
        body = {"compare": list(models), "split": split, "against": against, "limit": limit}
        return Call("POST", "/v1/benchmark", json=body, repeatable=False)
    fields: dict[str, Any] = {"compare": list(models), "detect": detect}
    if limit is not None:
        fields["limit"] = str(limit)
    files = {"file": upload}
    return Call("POST", "/v1/benchmark", data=fields, files=files, repeatable=False)


def get_benchmark(job: str) -> Call:
    """Asks how far a benchmark is."""
    return Call("GET", f"/v1/benchmark/{job}")


def get_report(job: str) -> Call:
    """Asks for a benchmark's report."""
    return Call("GET", f"/v1/benchmark/{job}/report")


def cancel_benchmark(job: str) -> Call:
    """Cancels a benchmark."""
    return Call("DELETE", f"/v1/benchmark/{job}")


def has_ended(job: BenchmarkDetails) -> bool:
    """Says whether a benchmark has a result.

    Raises:
        Refusal: There will be none; of the code ``cancelled`` where somebody cancelled it.
    """
    if job.status in ("failed", "cancelled"):
        code = job.problem.code if job.problem else job.status
        detail = job.problem.detail if job.problem else f"the benchmark was {job.status}"
        raise kind_of(code)(detail, code=code)
    return job.status == "succeeded"


def key_header(api_key: str | None) -> dict[str, str]:
    """Returns the header that carries the key; HTTP clients send this one to no other host."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def stream_url(base_url: str, options: StreamingOptions) -> str:
    """Returns the address of the stream, with the options in its query."""
    scheme, host, path, _, _ = urlsplit(base_url)
    secure = "wss" if scheme == "https" else "ws"
    query = urlencode(_query(options))
    return urlunsplit((secure, host, f"{path.rstrip('/')}/v1/emotion/stream", query, ""))


def _query(options: RecognizeOptions | StreamingOptions) -> Query:
    """Options as the query has them: ``true`` and ``false`` in JSON's words."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value  # type: ignore[misc]
        for name, value in options.items()
    }
