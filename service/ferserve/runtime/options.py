"""How models are run; knows neither ONNX Runtime nor the service's settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ProviderChoice = Literal["auto", "cpu", "cuda", "tensorrt"]
Precision = Literal["float32", "tf32", "float16", "int8"]
Strategy = Literal["dynamic", "padded", "bound", "sessions", "graphs"]
ConvSearch = Literal["exhaustive", "heuristic", "default"]
ConvLayout = Literal["nchw", "nhwc"]

GPU_WORKERS = 2
"""Batches under way at a time on a GPU: the next is prepared, and begun, while one runs."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How models are run.

    Attributes:
        provider: ``auto`` (CUDA where it works, else the CPU; for int8 the CPU), ``cpu``, ``cuda``
            or ``tensorrt``.
        device_id: CUDA device.
        intra_op_threads: Threads inside one inference on the CPU.
        max_batch: Largest batch to prepare for.
        workers: Batches that may run at a time where a strategy keeps buffers for each.
        precision: ``float32``; ``tf32``, of GPUs only; ``float16``, from a network's first
            convolution to its last; or ``int8``, in its convolutions, of the CPU only.
        strategy: How batches are run, see :mod:`ferserve.runtime.runners`; None takes
            ``dynamic`` on the CPU, ``padded`` on CUDA and ``sessions`` with TensorRT.
        cudnn_conv_algo_search: How cuDNN chooses its convolutions; of CUDA only.
        conv_layout: Order of the axes in convolutions; of CUDA only.
        gpu_memory_limit_bytes: Most memory a session's arena may take; None means no limit.
        cache_dir: Folder that keeps what start-up would compute anew: float16 and int8 models
            and TensorRT's engines. None keeps nothing.
    """

    provider: ProviderChoice = "auto"
    device_id: int = 0
    intra_op_threads: int = 1
    max_batch: int = 32
    workers: int = GPU_WORKERS
    precision: Precision = "float32"
    strategy: Strategy | None = None
    cudnn_conv_algo_search: ConvSearch = "exhaustive"
    conv_layout: ConvLayout = "nchw"
    gpu_memory_limit_bytes: int | None = None
    cache_dir: Path | None = None

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """1, 2, 4 … below ``max_batch``, then ``max_batch`` itself."""
        powers = (1 << i for i in range((self.max_batch - 1).bit_length()))
        return (*powers, self.max_batch)
