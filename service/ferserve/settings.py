"""Settings of the service, read from environment variables with the prefix ``FERSERVE_``."""

import os
import re
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from limits import parse_many
from pydantic import AfterValidator, AnyUrl, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ProviderChoice = Literal["auto", "cpu", "cuda", "tensorrt"]

_PACKAGE = Path(__file__).resolve().parent


def installed_models() -> Path:
    """Returns where ferserve's models are: beside this module, or at the top of a checkout."""
    carried = _PACKAGE / "released"
    return carried if carried.is_dir() else _PACKAGE.parents[1] / "models"


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key) < 16 or not key.get_secret_value().isascii():
        raise ValueError("each key in FERSERVE_API_KEYS needs at least 16 characters, all ASCII")
    return key


ApiKey = Annotated[SecretStr, AfterValidator(_long_enough)]

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Of cgroup v2: quota and period in microseconds."""


def usable_cpus() -> int:
    """Counts the processors this process may use, at least 1, by affinity and container limits."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has affinity masks
        allowed = os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup v2, or no limit ("max")
        quota, period = _CGROUP_CPU_MAX.read_text().split()
        allowed = min(allowed, int(quota) // int(period))
    return max(allowed, 1)


def web_origin(text: str) -> str:
    """Returns an origin as browsers write it (RFC 6454): small letters, no default port."""
    if re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+/?", text.lower()):
        with suppress(ValueError):
            return str(AnyUrl(text.lower())).removesuffix("/")
    raise ValueError(f"{text!r} is not an origin: write it as https://example.org")


MEBI = 1024 * 1024


class Settings(BaseSettings):
    """Everything an operator can set; field ``x`` is the variable ``FERSERVE_X``.

    ``make docs`` copies what stands below each field, here and in ``ClusterSettings``, to ``docs``.
    """

    model_config = SettingsConfigDict(
        env_prefix="FERSERVE_",
        env_ignore_empty=True,
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may be a key
    )

    models_dir: Path = Field(default_factory=installed_models)
    """Folder of `<name>.onnx`, `<name>.json` and `face_detector.onnx`; by default ferserve's
    own."""

    models: Annotated[tuple[str, ...], NoDecode] = ()
    """Names to serve, comma-separated; by default all that are found."""

    default_model: str | None = None
    """Answers requests that name no model; by default `crowd`, or else the first one served."""

    provider: ProviderChoice = "auto"
    """`auto`: CUDA where it works, else the CPU. `cuda` or `tensorrt` that does not work is an
    error at the start ([GPUs](gpu.md))."""

    provider_options: dict[str, str | int | float | bool] = {}
    """ONNX Runtime's options of the provider, as JSON: `{"device_id": 1, "use_tf32": 1}`."""

    intra_op_threads: int = Field(default=1, ge=1)
    """Threads of one inference on the CPU. One per processor, with `INFERENCE_WORKERS=1`, answers a
    lone request sooner but fewer requests in all
    ([figures](performance.md#what-the-cpu-path-was-chosen-from))."""

    inference_workers: int | None = Field(default=None, ge=1)
    """Worker threads for each model; by default one per processor, or two on a GPU."""

    max_batch: int = Field(default=32, ge=1)
    """Most faces in one inference; on the CPU at most 8, because more are no faster."""

    max_wait_ms: float = Field(default=0, ge=0, le=1000)
    """How long a face may wait, from its arrival, for others to fill its batch."""

    max_queue: int = Field(default=256, ge=1)
    """Most faces waiting for a model, and most images in or before decoding; beyond it 429."""

    request_timeout_ms: float = Field(default=10_000, gt=0)
    """Time from a complete upload to its answer; beyond it 504. A request may shorten it with the
    header `X-Request-Timeout-Ms`."""

    max_upload_bytes: int = Field(default=20 * MEBI, ge=1)
    """Largest request body, base64 and multipart framing included."""

    max_images: int = Field(default=32, ge=1, le=500)
    """Most images in one request of `/v1/emotion/batch`."""

    max_batch_upload_bytes: int = Field(default=64 * MEBI, ge=1)
    """Largest body of a batch request."""

    upload_memory_bytes: int = Field(default=512 * MEBI, ge=1)
    """Most bytes of all bodies and frames together; beyond it 429. Zips may take half of it."""

    max_pixels: int = Field(default=50_000_000, ge=1, le=178_956_970)  # Pillow's own limit
    """Largest image, width × height; at most 178,956,970."""

    decode_memory_bytes: int = Field(default=144 * MEBI, ge=2 * MEBI)
    """Most memory for all images being decoded, except some WebP; an image that needs more by
    itself gets 413 ([what is decoded](security.md#hostile-images))."""

    max_faces: int = Field(default=32, ge=1)
    """Most faces answered per image."""

    detect_max_side: int = Field(default=640, ge=32)
    """Longer side, in pixels, to which images are scaled down for face detection."""

    max_streams: int = Field(default=64, ge=0)
    """Most open [streams](stream.md), a quarter of them for one key or address; beyond it 429."""

    dataset: Path | None = None
    """FER2013 for [benchmarks](benchmark.md): the Kaggle zip, its folder or `fer2013.csv`."""

    votes: Path | None = None
    """FER+ votes about these faces, a CSV, for benchmarks against people's majority."""

    benchmark_max_upload_bytes: int = Field(default=128 * MEBI, ge=1)
    """Largest zip to benchmark on; its files may have eight times as many bytes, unpacked."""

    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = ()
    """Keys that callers may use, comma-separated, of at least 16 ASCII characters; by default
    everyone may call ([security](security.md))."""

    rate_limit: str | None = None
    """Most requests to `/v1`, `/v2` and `/analyze` and stream frames for each key, or each address
    without keys: `100/minute`, `10/second;1000/hour`."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call, comma-separated, such as `https://app.example`; `*` is all."""

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Names that a request's `Host` may have besides `localhost` and addresses, comma-separated;
    `*` is all. By default all, or none where `HOST` is a loopback address
    ([security](security.md#browsers))."""

    metrics_emotions: bool = False
    """Whether `/metrics` counts faces by dominant emotion."""

    host: str = "127.0.0.1"
    """Address to listen on; `::` is all addresses, IPv4 too."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on."""

    root_path: str = ""
    """Prefix, such as `/face`, that [a proxy](proxy.md) takes from the path."""

    log_format: Literal["text", "json"] = "text"
    """`text`, or `json`: one line a request with method, path, status, time and request id."""

    drain_seconds: int = Field(default=20, ge=0)
    """Longest wait at shutdown for requests under way."""

    def for_listening(self) -> Self:
        """Returns the settings of a server that listens on ``host``."""
        try:
            is_local = ip_address(self.host).is_loopback
        except ValueError:
            is_local = self.host == "localhost"
        hosts = self.allowed_hosts or (("localhost",) if is_local else ())
        return self.model_copy(update={"allowed_hosts": hosts})

    @field_validator("models", "api_keys", "cors_origins", "allowed_hosts", mode="before")
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
            raise ValueError(f"{value!r} is not a path: write it as /face")
        return prefix

    @field_validator("dataset", "votes")
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
        one_upload = max(self.max_upload_bytes, self.max_batch_upload_bytes)
        if self.upload_memory_bytes < max(one_upload, 2 * self.benchmark_max_upload_bytes):
            raise ValueError(
                "upload_memory_bytes must be at least max_upload_bytes, max_batch_upload_bytes and "
                "twice benchmark_max_upload_bytes"
            )
        if self.default_model and self.models and self.default_model not in self.models:
            raise ValueError(
                f"default_model {self.default_model!r} is not among models {list(self.models)}"
            )
        return self

    def unhurried(self) -> Self:
        """Returns the settings for work that no other caller waits for."""
        return self.model_copy(update={"request_timeout_ms": 86_400_000, "max_queue": 10_000})


class ClusterSettings(BaseSettings):
    """How many replicas run on Ray, and on what; field ``x`` is ``FERSERVE_CLUSTER_X``."""

    model_config = Settings.model_config | SettingsConfigDict(env_prefix="FERSERVE_CLUSTER_")

    min_replicas: int = Field(default=1, ge=1)
    """Fewest replicas of the service."""

    max_replicas: int = Field(default=1, ge=1)
    """Most replicas of the service."""

    replica_cpus: float = Field(default=1, gt=0)
    """Processors that a replica reserves; it runs as many workers for each model, at least one."""

    replica_gpus: float = Field(default=0, ge=0)
    """GPUs that a replica reserves, fractions too; 0 computes on the processor."""

    metrics_port: int = Field(default=9400, ge=1, le=65_000)
    """First port for metrics; each replica takes the next free one of its machine."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self

    def for_replica(self, settings: Settings) -> Settings:
        """Returns the settings of a replica, which computes on what it reserves."""
        provider = settings.provider
        if provider in ("cuda", "tensorrt") and not self.replica_gpus:
            raise ValueError(f"provider={provider} needs FERSERVE_CLUSTER_REPLICA_GPUS above 0")
        if provider == "auto":
            provider = "cuda" if self.replica_gpus else "cpu"
        workers = settings.inference_workers
        if workers is None and provider == "cpu":
            workers = max(1, round(self.replica_cpus))
        # Ray shows a replica only the GPUs it was given.
        options = {k: v for k, v in settings.provider_options.items() if k != "device_id"}
        changed = {"provider": provider, "provider_options": options, "inference_workers": workers}
        return settings.model_copy(update=changed)


def unknown_variables() -> list[str]:
    """Names the variables of the environment with our prefix that nothing reads."""
    known = {"FERSERVE_API_KEY", "FERSERVE_PEERS", "FERSERVE_URL"}  # clients, benches and tests
    known |= {f"FERSERVE_{name}".upper() for name in Settings.model_fields}
    known |= {f"FERSERVE_CLUSTER_{name}".upper() for name in ClusterSettings.model_fields}
    given = {name for name in os.environ if name.upper().startswith("FERSERVE_")}
    return sorted(name for name in given if name.upper() not in known)
