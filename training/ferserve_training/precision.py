"""The number format of a training step, where the recipe leaves it to the machine."""

import re
from pathlib import Path

import keras

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls arithmetic in bfloat16: on x86, the first two; on ARM, the last."""


def resolve_precision(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns a Keras dtype policy for a recipe's precision.

    ``auto`` is ``mixed_bfloat16`` on a GPU and on a processor that computes in bfloat16. On others
    the format is emulated: on AVX2 an epoch takes more than six times as long as in float32.
    """
    if precision != "auto":
        return precision
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    flags = " ".join(re.findall(r"(?im)^(?:flags|features)\s*:(.*)$", text)).split()
    return "mixed_bfloat16" if _has_gpu() or CPU_FLAGS.intersection(flags) else "float32"


def _has_gpu() -> bool:
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if keras.config.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() == "gpu"
