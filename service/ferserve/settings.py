"""Settings of the service, read from environment variables with the prefix ``FERSERVE_``."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from limits import parse_many
from pydantic import AnyUrl, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ferserve.runtime.options import ConvLayout, ConvSearch, Precision, ProviderChoice, Strategy

_PACKAGE = Path(__file__).resolve().parent


def installed_models() -> Path:
    """Returns the folder of the models that come with ferserve.

    A wheel carries them beside this module; a checkout has them at its top.
    """
    carried = _PACKAGE / "released"
    return carried if carried.is_dir() else _PACKAGE.parents[1] / "models"


ApiKey = Annotated[SecretStr, Field(min_length=16)]
"""Long enough not to be guessed; never shown where settings are printed."""

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """Counts the processors this process may use, at least 1.

    ONNX Runtime and ``os.cpu_count`` see the whole host; a container limited by ``--cpus`` has a
    control-group quota instead (``cpu.max`` of cgroup v2: quota and period in microseconds).
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has affinity masks
        allowed = os.cpu_count() or 1
    try:
        quota, period = _CGROUP_CPU_MAX.read_text().split()
        allowed = min(allowed, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        pass
    return max(allowed, 1)


def web_origin(text: str) -> str:
    """Returns an origin as browsers write it (RFC 6454): small letters, no default port.

    Raises:
        ValueError: It is more than scheme, host and port, or less.
    """
    try:
        url = AnyUrl(text.lower())
        plain = (None, None, None, None)
        if (
            "://" in text
            and url.host
            and "*" not in url.host
            and url.path in (None, "/")
            and (url.username, url.password, url.query, url.fragment) == plain
        ):
            return str(url).removesuffix("/")
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no origin: write it as https://example.org")


class Settings(BaseSettings):
    """Everything an operator can set; field ``x`` is the variable ``FERSERVE_X``.

    Attributes:
        models_dir: Folder of ``<name>.onnx``, ``<name>.json`` and ``face_detector.onnx``.
        models: Names to serve, comma-separated in the environment; empty means all found.
        default_model: Answers requests that name no model; unset means the first served.
        provider: ``auto`` takes CUDA where it works and the CPU elsewhere; ``cuda`` or
            ``tensorrt`` that does not work is a start-up error.
        device_id: CUDA device.
        precision: Arithmetic of the networks: ``float32``; ``tf32``, of GPUs only; ``float16``;
            ``int8``, of the CPU only.
        batch_strategy: How batches are run, see ``ferserve.runtime.runners``; unset means
            ``dynamic`` on the CPU, ``padded`` on CUDA and ``sessions`` with TensorRT.
        cudnn_conv_algo_search: How cuDNN chooses its convolutions.
        conv_layout: Order of the axes in CUDA's convolutions.
        gpu_memory_limit_bytes: Most memory that the arena of one session takes on a GPU.
        cache_dir: Folder that keeps float16 and int8 models and TensorRT's engines between
            starts; unset writes nothing. Whoever can write there decides what is computed.
        intra_op_threads: Threads inside one inference on the CPU. One is fastest together with
            several workers.
        inference_workers: Worker threads a model; unset means one a processor on the CPU and
            two on a GPU, so that the next batch is ready when one ends.
        max_batch: Most faces in one inference; on a CPU 8 at most.
        max_wait_ms: How long a face may wait for others to fill its batch, counted from its
            arrival. 0 never waits: batches form while the workers are busy.
        max_queue: Most faces waiting for inference, a model; the same number of images may be
            in decoding and face detection. More is answered 429.
        request_timeout_ms: Time from a whole upload to its answer; past it 504. A request may
            shorten it.
        max_upload_bytes: Largest request body, base64 and multipart framing included.
        max_images: Most images in one request of ``/v1/emotion/batch``.
        max_batch_upload_bytes: Largest body of such a request.
        upload_memory_bytes: Most bytes of the bodies of all requests together, benchmarks apart;
            more is answered 429.
        max_pixels: Largest image, width times height.
        max_faces: Most faces answered an image.
        detect_max_side: Images are scaled down to this longer side for face detection, pixels.
        max_streams: Most streams of ``/v1/emotion/stream`` open at a time; more is answered 429.
        stream_max_fps: Most frames a second answered in a stream; what comes faster is dropped.
        stream_idle_seconds: How long a stream may bring no frame, or take no answer.
        stream_max_seconds: How long a stream may last.
        dataset: FER2013 for benchmarks: the Kaggle zip, its unpacked folder or ``fer2013.csv``;
            unset means that only uploads can be benchmarked.
        benchmark_queue: Most benchmarks waiting beside the one that runs; more is answered 429.
        benchmark_max_upload_bytes: Largest zip, kept in memory until its benchmark has run.
        benchmark_max_entries: Most files and folders in a zip.
        benchmark_max_unpacked_bytes: Most bytes of a zip's files together, unpacked.
        api_keys: Keys that may use ``/v1``, ``/v2`` and ``/metrics``, comma-separated in the
            environment; empty means that everyone may.
        rate_limit: Most requests to ``/v1`` and ``/v2`` by key, or by address where there is none,
            such as ``100/minute`` or ``10/second;1000/hour``; unset means no limit.
        cors_origins: Origins whose pages may call the service, comma-separated in the
            environment; empty means none, ``*`` all.
        metrics_emotions: Whether ``/metrics`` counts faces by dominant emotion.
        host: Address to listen on; ``::`` is all addresses of both families.
        port: Port to listen on.
        root_path: Prefix such as ``/face`` that a proxy takes from the path; documentation and
            links then have it.
        log_format: ``text`` for people, ``json`` for machines (one object a line).
        drain_seconds: Longest wait for requests under way at shutdown.
    """

    model_config = SettingsConfigDict(env_prefix="FERSERVE_", env_ignore_empty=True, frozen=True)

    models_dir: Path = Field(default_factory=installed_models)
    models: Annotated[tuple[str, ...], NoDecode] = ()
    default_model: str | None = None
    provider: ProviderChoice = "auto"
    device_id: int = Field(default=0, ge=0)
    precision: Precision = "float32"
    batch_strategy: Strategy | None = None
    cudnn_conv_algo_search: ConvSearch = "exhaustive"
    conv_layout: ConvLayout = "nchw"
    gpu_memory_limit_bytes: int | None = Field(default=None, ge=1)
    cache_dir: Path | None = None
    intra_op_threads: int = Field(default=1, ge=1)
    inference_workers: int | None = Field(default=None, ge=1)
    max_batch: int = Field(default=32, ge=1)
    max_wait_ms: float = Field(default=0, ge=0, le=1000)
    max_queue: int = Field(default=256, ge=1)
    request_timeout_ms: float = Field(default=10_000, gt=0)
    max_upload_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
    max_images: int = Field(default=32, ge=1, le=500)
    max_batch_upload_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    upload_memory_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    max_pixels: int = Field(default=50_000_000, ge=1)
    max_faces: int = Field(default=32, ge=1)
    detect_max_side: int = Field(default=640, ge=32)
    max_streams: int = Field(default=64, ge=0)
    stream_max_fps: float = Field(default=30, gt=0)
    stream_idle_seconds: float = Field(default=30, gt=0)
    stream_max_seconds: float = Field(default=3600, gt=0)
    dataset: Path | None = None
    benchmark_queue: int = Field(default=3, ge=0)
    benchmark_max_upload_bytes: int = Field(default=128 * 1024 * 1024, ge=1)
    benchmark_max_entries: int = Field(default=50_000, ge=1)
    benchmark_max_unpacked_bytes: int = Field(default=1024 * 1024 * 1024, ge=1)
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = ()
    rate_limit: str | None = None
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    metrics_emotions: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    root_path: str = ""
    log_format: Literal["text", "json"] = "text"
    drain_seconds: int = Field(default=20, ge=0)

    @field_validator("models", "api_keys", "cors_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin if origin == "*" else web_origin(origin) for origin in value)

    @field_validator("root_path")
    @classmethod
    def _is_a_prefix(cls, value: str) -> str:
        prefix = value.rstrip("/")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", prefix):
            raise ValueError(f"{value!r} is no path: write it as /face")
        return prefix

    @field_validator("dataset")
    @classmethod
    def _is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError(f"{value}: no such file or folder")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value is not None:
            parse_many(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_queue < self.max_faces:
            raise ValueError(
                f"max_queue ({self.max_queue}) must be at least max_faces ({self.max_faces}), "
                "or an image with that many faces could never be answered"
            )
        if self.upload_memory_bytes < max(self.max_upload_bytes, self.max_batch_upload_bytes):
            raise ValueError(
                f"upload_memory_bytes ({self.upload_memory_bytes}) must be at least "
                f"max_upload_bytes ({self.max_upload_bytes}) and "
                f"max_batch_upload_bytes ({self.max_batch_upload_bytes})"
            )
        if self.default_model and self.models and self.default_model not in self.models:
            raise ValueError(
                f"default_model {self.default_model!r} is not among models {list(self.models)}"
            )
        return self
