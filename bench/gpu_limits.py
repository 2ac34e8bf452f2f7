"""The arithmetic limit: how many operations a card does a second."""

PEAKS = {
    "NVIDIA H100 80GB HBM3": {"float32": 67e12, "tf32": 494.7e12, "float16": 989.4e12},
    "NVIDIA H200": {"float32": 67e12, "tf32": 494.7e12, "float16": 989.4e12},
    "NVIDIA A100-SXM4-40GB": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
    "NVIDIA A100-SXM4-80GB": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
    "NVIDIA A100-PCIE-40GB": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
    "NVIDIA A100 80GB PCIe": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
}
"""Floating-point operations a second by the name that the driver gives a card, from NVIDIA's data
sheets of the H100 (SXM), H200 (SXM) and A100 Tensor Core GPUs: float32 on CUDA cores, TF32 and
float16 on tensor cores without sparsity, a fused multiply-add counted as two."""


def peak(card: str | None, precision: str) -> float | None:
    """Returns a card's operations a second; None where it is not in the table."""
    return PEAKS.get(card or "", {}).get(precision)
