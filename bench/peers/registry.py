"""The services that are compared: how each is started, tuned and asked."""

import base64
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferserve.loadtest.payloads import Payload

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

Probabilities = Mapping[str, float]


def as_body(png: bytes) -> Payload:
    """The image is the body."""
    return Payload(png, "image/png")


def as_base64(png: bytes) -> Payload:
    """The image is in a JSON document, as LitServe's examples have it."""
    return Payload(json.dumps({"image": base64.b64encode(png).decode()}).encode(), JSON)


def as_form(png: bytes) -> Payload:
    """The image is a form's file: BentoML takes a list so."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="faces"; filename="face.png"\r\n'
    start = f"{head}Content-Type: image/png\r\n\r\n".encode()
    return Payload(
        start + png + f"\r\n--{BOUNDARY}--\r\n".encode(),
        f"multipart/form-data; boundary={BOUNDARY}",
    )


def as_tensor(png: bytes) -> Payload:
    """The image is a BYTES tensor of the Open Inference Protocol."""
    tensor = {
        "name": "face",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(png).decode()],
    }
    return Payload(json.dumps({"inputs": [tensor]}).encode(), JSON)


JSON = "application/json"
BOUNDARY = "one-face"


@dataclass(frozen=True)
class Variant:
    """One way to tune a service.

    Attributes:
        name: In words.
        settings: Environment variables.
        target: What its command names, where that differs.
        body: How an image is sent.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    target: str = ""
    body: Callable[[bytes], Payload] = as_body


@dataclass(frozen=True)
class Peer:
    """A service that classifies faces of 48x48 pixels.

    Attributes:
        name: Of its requirements and its script; ``ferserve`` has none and runs here.
        title: For people.
        packages: Whose versions are recorded.
        command: With ``{programs}``, ``{here}``, ``{port}`` and ``{target}`` to be filled in.
        path: Of its endpoint.
        ready: Path that answers 200 once it is ready.
        variants: The ways to tune it, given the number of processors.
        read: Takes the probabilities out of an answer.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    ready: str
    variants: Callable[[int], tuple[Variant, ...]]
    read: Callable[[Any], Probabilities] = lambda answer: answer

    def command_line(self, programs: Path, port: int, variant: Variant) -> list[str]:
        """Returns what starts it."""
        known = {"programs": programs, "here": HERE, "port": port, "target": variant.target}
        return [part.format(**known) for part in self.command]


def environment(model: Path, port: int, cores: int, variant: Variant) -> dict[str, str]:
    """Returns the variables that any of the services is started with."""
    common = {
        "PYTHONPATH": f"{HERE}{os.pathsep}{REPOSITORY}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PEER_MODEL": model,
        "PEER_PORT": port,
        "PEER_CORES": cores,
        "FERSERVE_MODELS_DIR": model.parent,
        "FERSERVE_MODELS": model.stem,
        "FERSERVE_PORT": port,
        "MLSERVER_HTTP_PORT": port,
        "MLSERVER_GRPC_PORT": free_port(),
        "MLSERVER_METRICS_PORT": free_port(),
        "MLSERVER_DEBUG": "false",
        "MLSERVER_MODEL_NAME": "emotion",
        "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_server.Emotion",
        # Nobody is told of these runs.
        "ORT_DISABLE_TELEMETRY": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return {key: str(value) for key, value in {**common, **variant.settings}.items()}


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ferserve(_cores: int) -> tuple[Variant, ...]:
    return (Variant("as it comes"),)


def _fastapi(cores: int) -> tuple[Variant, ...]:
    return (
        Variant("1 process, 40 threads", {"PEER_THREADS": 40}),
        Variant(f"1 process, {cores} threads", {"PEER_THREADS": cores}),
        Variant(f"{cores} processes, 1 thread each", {"PEER_WORKERS": cores}),
    )


def _litserve(cores: int) -> tuple[Variant, ...]:
    workers: dict[str, object] = {"PEER_WORKERS": cores}
    fast = workers | {"PEER_FAST_QUEUE": 1}
    return (
        Variant(f"{cores} workers", workers, body=as_base64),
        Variant(f"{cores} workers, fast queue", fast, body=as_base64),
        Variant(
            # With no wait its loop polls without a pause.
            f"{cores} workers, fast queue, batches of 8, wait 10 ms",
            fast | {"PEER_MAX_BATCH": 8, "PEER_BATCH_WAIT": 0.01},
            body=as_base64,
        ),
        Variant(
            f"{cores} workers, {cores} HTTP servers, fast queue",
            fast | {"PEER_API_SERVERS": cores},
            body=as_base64,
        ),
    )


def _bentoml(cores: int) -> tuple[Variant, ...]:
    return (
        Variant(f"{cores} workers", {"PEER_WORKERS": cores}, "Single"),
        Variant(f"1 worker, {cores} threads", {"PEER_THREADS": cores}, "Single"),
        Variant(
            f"{cores} workers, adaptive batches up to 16",
            {"PEER_WORKERS": cores, "PEER_MAX_BATCH": 16},
            "Batched",
            as_form,
        ),
    )


def _ray(cores: int) -> tuple[Variant, ...]:
    batches: dict[str, object] = {"PEER_WORKERS": cores, "PEER_MAX_BATCH": 8}
    optimized = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": 1, "RAY_SERVE_ENABLE_HA_PROXY": 1}
    return (
        Variant(f"{cores} replicas, batches of 8, wait 0", batches),
        Variant(f"{cores} replicas, batches of 8, wait 10 ms", batches | {"PEER_BATCH_WAIT": 0.01}),
        Variant(f"{cores} replicas, batches of 8, wait 0, optimized, HAProxy", batches | optimized),
    )


def _mlserver(cores: int) -> tuple[Variant, ...]:
    batches = {"MLSERVER_MODEL_MAX_BATCH_SIZE": 8, "MLSERVER_MODEL_MAX_BATCH_TIME": 0.005}
    workers: dict[str, object] = {"MLSERVER_PARALLEL_WORKERS": cores}
    return (
        Variant("in the server's process", {"MLSERVER_PARALLEL_WORKERS": 0}, body=as_tensor),
        Variant(f"{cores} parallel workers", workers, body=as_tensor),
        Variant(f"{cores} parallel workers, batches of 8", workers | batches, body=as_tensor),
    )


def _from_tensor(answer: Any) -> Probabilities:
    from ferserve.fer2013.labels import EMOTIONS

    return dict(zip(EMOTIONS, answer["outputs"][0]["data"], strict=True))


SCRIPT = "{programs}/python"

FERSERVE = Peer(
    "ferserve",
    "ferserve",
    ("fastapi", "uvicorn", "onnxruntime"),
    (SCRIPT, "-m", "ferserve", "serve"),
    "/v1/emotion",
    "/readyz",
    _ferserve,
    lambda answer: answer["faces"][0]["emotions"],
)

PEERS = (
    Peer(
        "fastapi",
        "FastAPI, thread pool",
        ("fastapi", "uvicorn", "onnxruntime"),
        (SCRIPT, "{here}/fastapi_server.py"),
        "/classify",
        "/ready",
        _fastapi,
    ),
    Peer(
        "litserve",
        "LitServe",
        ("litserve", "fastapi", "uvicorn", "onnxruntime"),
        (SCRIPT, "{here}/litserve_server.py"),
        "/predict",
        "/health",
        _litserve,
    ),
    Peer(
        "bentoml",
        "BentoML",
        ("bentoml", "uvicorn", "onnxruntime"),
        (
            *("{programs}/bentoml", "serve", "bentoml_server:{target}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--working-dir", "{here}"),
        ),
        "/classify",
        "/readyz",
        _bentoml,
        lambda answer: answer[0] if isinstance(answer, list) else answer,
    ),
    Peer(
        "ray",
        "Ray Serve",
        ("ray", "uvicorn", "onnxruntime"),
        (SCRIPT, "{here}/ray_server.py"),
        "/classify",
        "/-/healthz",
        _ray,
    ),
    Peer(
        "mlserver",
        "MLServer",
        ("mlserver", "fastapi", "uvicorn", "onnxruntime"),
        ("{programs}/mlserver", "start", "."),
        "/v2/models/emotion/infer",
        "/v2/models/emotion/ready",
        _mlserver,
        _from_tensor,
    ),
)

OWN_PROGRAMS = Path(sys.executable).parent
