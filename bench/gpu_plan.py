"""Which combinations are measured, and in which order."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OPENING_SECONDS = 8.0
"""Rough time to start a process, open a model's sessions and warm every batch size; an assumption
that only the estimate printed at the start rests on."""

TF32_STRATEGIES = 2
"""TF32 is measured with the first strategies only: it changes the arithmetic, not the way."""


@dataclass(frozen=True)
class Combination:
    """What a process measures."""

    model: str
    precision: str
    strategy: str

    @property
    def key(self) -> dict[str, str]:
        """Tells it from others in the results."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.model}, {self.precision}, {self.strategy}"


def combinations(options: argparse.Namespace, provider: str) -> list[Combination]:
    """Returns all, those that decide most first, in case that time runs out."""
    return [
        Combination(model, precision, strategy)
        for number, strategy in enumerate(options.strategies)
        for precision in precisions(options.precisions, provider)
        for model in options.models
        if precision != "tf32" or number < TF32_STRATEGIES
    ]


def precisions(asked: Sequence[str], provider: str) -> list[str]:
    """Returns those that a provider has: TF32 is of GPUs, int8 of the CPU; TensorRT takes TF32."""
    missing = {"cpu": {"tf32"}, "cuda": {"int8"}, "tensorrt": {"float32", "int8"}}[provider]
    return [precision for precision in asked if precision not in missing]


def estimate_seconds(count: int, batches: int, seconds: float, callers: int = 2) -> float:
    """Returns about how long so many combinations take."""
    return count * (OPENING_SECONDS + callers * batches * seconds)
