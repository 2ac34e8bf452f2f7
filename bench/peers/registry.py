"""The services that are compared: how each is installed, started and asked.

A peer is set up in the way that was fastest of those its documentation recommends. Environments are
made at the first run, in ``build/peers`` or where ``FERSERVE_PEERS`` says.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import httpx
from ferserve.fer2013.labels import EMOTIONS
from ferserve.loadtest.plan import Payload
from ferserve.settings import installed_models
from load import REPOSITORY, free_port

HERE = Path(__file__).resolve().parent
OWN_PROGRAMS = Path(sys.executable).parent
BASE = ("onnxruntime==1.31.1", "numpy==2.4.6", "pillow==13.0.0")
JSON = "application/json"
MODELS = installed_models()
CACHE = Path(os.environ.get("FERSERVE_PEERS", REPOSITORY / "build" / "peers")).resolve()


@dataclass(frozen=True)
class Peer:
    """A service that classifies faces.

    Attributes:
        command: Starts it, with ``{bin}``, ``{here}`` and ``{port}`` to be filled in.
        path: Of its endpoint.
        ready: Path that answers 200 once it is ready.
        requirements: What its environment holds; none where it runs in ours.
        installer: Where from.
        environment: Variables, given the port and the number of processors.
        body: How an image is sent.
        read: Takes the probabilities out of an answer.
        finds_faces: Whether it takes whole photos.
        brings_model: Whether it has weights of its own, and does not take ONNX files.
    """

    name: str
    title: str
    command: tuple[str, ...]
    path: str
    ready: str
    requirements: tuple[str, ...] = ()
    installer: Literal["pip", "npm"] = "pip"
    environment: Callable[[int, int], Mapping[str, object]] = lambda _port, _cores: {}
    body: Callable[[Payload], Payload] = lambda image: image
    read: Callable[[Any], Mapping[str, float]] = lambda answer: answer
    finds_faces: bool = False
    brings_model: bool = False

    def command_line(self, programs: Path, port: int) -> list[str]:
        return [part.format(bin=programs, here=HERE, port=port) for part in self.command]

    def variables(self, model: Path, port: int, cores: int) -> dict[str, str]:
        common = {
            "PYTHONPATH": HERE,
            "PYTHONDONTWRITEBYTECODE": 1,
            "PEER_MODEL": model,
            "PEER_PORT": port,
            "PEER_CORES": cores,
            "ORT_DISABLE_TELEMETRY": 1,
        }
        # Without requirements it is ours, which finds its packages as this process does.
        chosen = (common if self.requirements else {}) | {
            "FERSERVE_MODELS_DIR": model.parent,
            "FERSERVE_MODELS": model.stem,
            **self.environment(port, cores),
        }
        return {key: str(value) for key, value in chosen.items()}

    def versions(self) -> dict[str, str]:
        """Returns the versions of what its environment was made of."""
        pinned = (one.rpartition("==" if self.installer == "pip" else "@") for one in self.wanted)
        return {name.partition("[")[0].rpartition("/")[2]: version for name, _, version in pinned}

    @property
    def wanted(self) -> tuple[str, ...]:
        """What is installed for it: those with our ONNX file all have the same runtime."""
        if not self.requirements or self.brings_model:
            return self.requirements
        return (*self.requirements, *BASE)

    @property
    def is_checkout(self) -> bool:
        """Whether it is this repository, which changes under the same name."""
        return any(str(REPOSITORY) in requirement for requirement in self.requirements)

    @property
    def folder(self) -> Path:
        """Its environment, one for each choice of versions."""
        return CACHE / f"{self.name}-{hashlib.sha256(repr(self.wanted).encode()).hexdigest()[:12]}"

    def install(self) -> Path:
        """Returns the folder of its programs: an environment of its own, made once and kept."""
        if not self.requirements:
            return OWN_PROGRAMS
        folder = self.folder
        if self.is_checkout or not (folder / "installed").exists():
            print(f"installing {self.name} into {folder} …", flush=True)
            if self.installer == "npm":
                npm = ["npm", "install", "--silent", "--prefix", folder]
                subprocess.run([*npm, *self.wanted], check=True)
            else:
                pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
                subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
                subprocess.run([*pip, *self.wanted], check=True)
            (folder / "installed").touch()
        return folder if self.installer == "npm" else folder / "bin"

    def installed_mb(self) -> float:
        """Returns what its environment takes on disk, megabytes of 10^6 bytes."""
        files = (file for file in self.folder.rglob("*") if not file.is_symlink())
        return round(sum(file.stat().st_size for file in files if file.is_file()) / 1e6, 1)


def as_base64(image: Payload) -> Payload:
    """The image is in a JSON document, as LitServe's examples have it."""
    return Payload(json.dumps({"image": base64.b64encode(image.data).decode()}).encode(), JSON)


def as_form(image: Payload) -> Payload:
    """The image is a form's file: BentoML takes a list so."""
    file = ("face.png", image.data, image.content_type)
    request = httpx.Request("POST", "http://127.0.0.1", files=[("faces", file)])
    return Payload(request.read(), request.headers["Content-Type"])


def as_tensor(image: Payload) -> Payload:
    """The image is a BYTES tensor of the Open Inference Protocol."""
    tensor = {
        "name": "face",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(image.data).decode()],
    }
    return Payload(json.dumps({"inputs": [tensor]}).encode(), JSON)


FERSERVE = Peer(
    name="ferserve",
    title="ferserve",
    command=("{bin}/python", "-m", "ferserve", "serve", "--port", "{port}"),
    path="/v1/emotion",
    ready="/readyz",
    read=lambda answer: answer["faces"][0]["emotions"],
    finds_faces=True,
)

INSTALLED = replace(FERSERVE, requirements=(f"{REPOSITORY}[cpu]",), brings_model=True)
"""ferserve as users install it, for what it takes on disk."""

PEERS = (
    Peer(
        name="fastapi",
        title="FastAPI, thread pool",
        requirements=("fastapi==0.165.0", "uvicorn[standard]==0.54.0"),
        command=("{bin}/python", "{here}/fastapi_server.py"),
        path="/classify",
        ready="/ready",
    ),
    Peer(
        name="litserve",
        title="LitServe",
        requirements=("litserve==0.2.19",),
        command=("{bin}/python", "{here}/litserve_server.py"),
        path="/predict",
        ready="/health",
        body=as_base64,
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        requirements=("bentoml==1.4.39",),
        command=(
            *("{bin}/bentoml", "serve", "bentoml_server:Emotion"),
            *("--host", "127.0.0.1", "--port", "{port}", "--working-dir", "{here}"),
        ),
        path="/classify",
        ready="/readyz",
        environment=lambda _port, _cores: {"BENTOML_DO_NOT_TRACK": True, "BENTOML_HOME": "bentoml"},
        body=as_form,
        read=lambda answer: answer[0],
    ),
    Peer(
        name="ray",
        title="Ray Serve",
        requirements=("ray[serve]==2.60.0",),
        command=("{bin}/python", "{here}/ray_server.py"),
        path="/classify",
        ready="/-/healthz",
        environment=lambda _port, _cores: {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": 1,
            "RAY_SERVE_ENABLE_HA_PROXY": 1,
            "RAY_USAGE_STATS_ENABLED": 0,
        },
    ),
    Peer(
        name="mlserver",
        title="MLServer",
        # Later versions of uvloop end the parallel workers of MLServer 1.7.1 at their start.
        requirements=("mlserver==1.7.1", "uvloop==0.21.0"),
        command=("{bin}/mlserver", "start", "."),
        path="/v2/models/emotion/infer",
        ready="/v2/models/emotion/ready",
        environment=lambda port, cores: {
            "MLSERVER_HTTP_PORT": port,
            "MLSERVER_GRPC_PORT": free_port(),
            "MLSERVER_METRICS_PORT": free_port(),
            "MLSERVER_DEBUG": False,
            "MLSERVER_MODEL_NAME": "emotion",
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_server.Emotion",
            "MLSERVER_PARALLEL_WORKERS": cores,
            "MLSERVER_MODEL_MAX_BATCH_SIZE": 8,
            "MLSERVER_MODEL_MAX_BATCH_TIME": 0.005,
        },
        body=as_tensor,
        read=lambda answer: dict(zip(EMOTIONS, answer["outputs"][0]["data"], strict=True)),
    ),
    Peer(
        name="fer",
        title="fer",
        requirements=(
            *("fer==25.10.3", "tensorflow==2.21.0", "setuptools==80.9.0"),
            *("fastapi==0.165.0", "uvicorn[standard]==0.54.0"),
        ),
        command=("{bin}/python", "{here}/fer_server.py"),
        path="/classify",
        ready="/ready",
        read=lambda answer: answer[0],
        finds_faces=True,
        brings_model=True,
    ),
    Peer(
        name="human",
        title="Human, WASM",
        requirements=(
            "@vladmandic/human@3.3.6",
            "@tensorflow/tfjs-core@4.22.0",
            "@tensorflow/tfjs-converter@4.22.0",
            "@tensorflow/tfjs-backend-wasm@4.22.0",
            "sharp@0.35.5",
        ),
        installer="npm",
        command=("node", "{here}/human_server.js", "{bin}"),
        path="/classify",
        ready="/ready",
        read=lambda answer: answer[0],
        finds_faces=True,
        brings_model=True,
    ),
)
