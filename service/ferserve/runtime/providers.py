"""ONNX Runtime's execution providers, and how each is told what the options ask for."""

from typing import Any

import onnxruntime as ort

from ferserve.runtime.errors import ModelError
from ferserve.runtime.options import RuntimeOptions

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

_NAMES = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
_TITLES = {"cuda": "CUDA", "tensorrt": "TensorRT"}


def wanted_provider(options: RuntimeOptions) -> str:
    """Returns the provider to try.

    Raises:
        ModelError: It is not built in, or cannot do what is asked of it.
    """
    available = ort.get_available_providers()
    if options.provider == "auto":
        return CUDA if CUDA in available and options.precision != "int8" else CPU
    name = _NAMES[options.provider]
    if name not in available:
        raise ModelError(
            f"provider={options.provider}, but this onnxruntime was built without "
            f"{_TITLES[options.provider]}; install ferserve[gpu] or set FERSERVE_PROVIDER=cpu"
        )
    if name == TENSORRT and options.precision == "float32":
        raise ModelError(
            "provider=tensorrt computes in TF32 where it likes; say so with "
            "FERSERVE_PRECISION=tf32 or float16, or set FERSERVE_PROVIDER=cuda"
        )
    return name


def provider_list(
    name: str, options: RuntimeOptions, *, capture: bool, engines: str = ""
) -> list[Any]:
    """Returns what ``InferenceSession`` takes as ``providers``.

    Args:
        name: The provider in use.
        options: What is asked of it.
        capture: Whether to capture the session's runs in a CUDA graph; nothing on the CPU.
        engines: Begins the names of cached TensorRT engines: ONNX Runtime's own tell neither
            weights nor batch sizes apart.
    """
    if name == CPU:
        return [CPU]
    if name == TENSORRT:
        # What TensorRT does not know stays with CUDA, whose own graph would be a second one.
        return [
            (TENSORRT, _tensorrt_options(options, capture, engines)),
            (CUDA, _cuda_options(options, capture=False)),
            CPU,
        ]
    return [(CUDA, _cuda_options(options, capture)), CPU]


def preload_libraries() -> None:
    """Finds the CUDA and cuDNN libraries that pip installed, where this ONNX Runtime needs them."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def _cuda_options(options: RuntimeOptions, capture: bool) -> dict[str, Any]:
    """Options of https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""
    limit = options.gpu_memory_limit_bytes
    return {
        "device_id": options.device_id,
        # Else the arena doubles, and it never shrinks.
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": options.cudnn_conv_algo_search.upper(),
        "cudnn_conv_use_max_workspace": 1,
        "do_copy_in_default_stream": 1,
        # TF32 rounds to 10 bits, and differently by batch size: a face's answer would depend on
        # the other faces in its batch.
        "use_tf32": int(options.precision == "tf32"),
        "prefer_nhwc": int(options.conv_layout == "nhwc"),
        "enable_cuda_graph": int(capture),
        **({} if limit is None else {"gpu_mem_limit": limit}),
    }


def _tensorrt_options(options: RuntimeOptions, capture: bool, engines: str) -> dict[str, Any]:
    """Options of https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html.

    It is given the graph in float32 and chooses itself which layers it computes in float16.
    """
    folder = options.cache_dir
    cache = {
        "trt_engine_cache_enable": 1,
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": engines,
        "trt_timing_cache_enable": 1,
        "trt_timing_cache_path": str(folder),
    }
    return {
        "device_id": options.device_id,
        "trt_fp16_enable": int(options.precision == "float16"),
        "trt_cuda_graph_enable": int(capture),
        **(cache if folder else {}),
    }
