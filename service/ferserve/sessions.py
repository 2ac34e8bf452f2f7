"""ONNX Runtime: a model's bytes → a session on one execution provider."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort

from ferserve.settings import ProviderChoice

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

_PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

CUDA_OPTIONS: Mapping[str, Any] = {
    # Else the arena doubles, and it never shrinks.
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_use_max_workspace": 1,
    # TF32 rounds to 10 bits, and differently by batch size: a face's answer would depend on the
    # other faces in its batch.
    "use_tf32": 0,
}
"""Of https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""

logger = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """A model cannot be served; the message says which file, and why."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """How models are run; as the settings of these names."""

    provider: ProviderChoice = "auto"
    provider_options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    intra_op_threads: int = 1
    max_batch: int = 32


def open_session(
    content: bytes, name: str, runtime: Runtime, *, int8: bool = False
) -> tuple[ort.InferenceSession, str]:
    """Opens a session of an ONNX file, and returns it with the execution provider in use.

    ``int8`` says that its convolutions compute in int8, which only the CPU does well. Raises
    ModelError where it cannot be loaded, or the provider that was asked for does not work.
    """
    wanted = CPU if int8 else _wanted_provider(runtime)
    if wanted != CPU and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds the CUDA and cuDNN libraries that pip installed
    asked = runtime.provider != "auto"
    try:
        session = _open(content, name, runtime, wanted, int8)
    except ModelError:
        if asked or wanted == CPU:
            raise
        session = _open(content, name, runtime, CPU, int8)
    active: str = session.get_providers()[0]
    if active != wanted and asked:
        raise ModelError(
            f"provider={runtime.provider}, but ONNX Runtime fell back to {active}; its log says "
            "which library of CUDA, cuDNN or TensorRT it missed"
        )
    if active != wanted:
        logger.warning("CUDA is built in but does not work here; %s runs on the CPU", name)
    return session, active


def _wanted_provider(runtime: Runtime) -> str:
    available = ort.get_available_providers()
    if runtime.provider == "auto":
        return CUDA if CUDA in available else CPU
    wanted = _PROVIDERS[runtime.provider]
    if wanted not in available:
        raise ModelError(
            f"provider={runtime.provider}, but this onnxruntime was built without it; "
            "install ferserve[gpu] or set FERSERVE_PROVIDER=cpu"
        )
    return wanted


def _open(
    content: bytes, name: str, runtime: Runtime, provider: str, int8: bool
) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3  # errors only: it warns of each size that the detector runs at
    settings.intra_op_num_threads = runtime.intra_op_threads
    settings.inter_op_num_threads = 1
    # Threads that spin while idle take the processors from decoding and from other workers.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Weights stored as int8 + DequantizeLinear become float32 once, at load; without this ONNX
    # Runtime keeps them apart and runs a third slower. What computes in int8 needs them kept.
    settings.add_session_config_entry("session.disable_quant_qdq", "0" if int8 else "1")
    options = dict(runtime.provider_options)
    providers: dict[str, list[Any]] = {
        CPU: [CPU],
        CUDA: [(CUDA, {**CUDA_OPTIONS, **options}), CPU],
        # What TensorRT does not know stays with CUDA.
        TENSORRT: [(TENSORRT, options), (CUDA, dict(CUDA_OPTIONS)), CPU],
    }
    try:
        # No fallback: a session that failed once would silently compute on the CPU.
        return ort.InferenceSession(content, settings, providers[provider], enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a class of its own for each kind
        raise ModelError(f"{name}: ONNX Runtime cannot load it for {provider}: {error}") from error
