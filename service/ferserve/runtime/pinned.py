"""Page-locked memory, which a GPU reads without an intermediate copy."""

import ctypes
import logging
import weakref

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_PORTABLE = 1
"""``cudaHostAllocPortable`` of the CUDA runtime: page-locked for every device."""

logger = logging.getLogger(__name__)


def page_locked(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns zeros, uint8, in page-locked memory; in ordinary memory where that fails.

    ONNX Runtime's Python interface has none; so ``cudaHostAlloc`` and ``cudaFreeHost`` of the CUDA
    runtime library that its CUDA provider has loaded are called.
    """
    try:
        runtime = ctypes.CDLL(f"libcudart.so.{_cuda_major()}")
    except (OSError, ValueError) as error:
        logger.debug("no page-locked memory: %s", error)
        return np.zeros(shape, np.uint8)
    size = int(np.prod(shape))
    address = ctypes.c_void_p()
    status = runtime.cudaHostAlloc(
        ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE)
    )
    if status != 0 or address.value is None:
        logger.debug("no page-locked memory: cudaHostAlloc answered %d", status)
        return np.zeros(shape, np.uint8)
    memory = (ctypes.c_uint8 * size).from_address(address.value)
    # Arrays made of it keep ``memory`` alive. Not at exit: CUDA may be gone by then.
    weakref.finalize(memory, runtime.cudaFreeHost, address).atexit = False
    array: NDArray[np.uint8] = np.ctypeslib.as_array(memory).reshape(shape)
    array[:] = 0
    return array


def _cuda_major() -> int:
    return int(str(getattr(ort, "cuda_version", "")).split(".")[0])
