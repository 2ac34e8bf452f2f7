"""What was measured, one row a request."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferserve.loadtest.plan import Plan

UNFINISHED = "unfinished"
"""The code of requests that were under way when the run was broken off."""


@dataclass(frozen=True, eq=False)
class Samples:
    """All requests of a run, the warm-up's too, in no order.

    Attributes:
        intended: float64 ``[n]``, when each was due, seconds from the start of the run; in a
            closed loop when it was sent.
        lag: float64 ``[n]``, seconds by which the generator was late to send it.
        latency: float64 ``[n]``, seconds from when it was due to the end of its answer.
        code: str ``[n]``, the answer's status, the name of what went wrong, or ``unfinished``.
    """

    intended: NDArray[np.float64]
    lag: NDArray[np.float64]
    latency: NDArray[np.float64]
    code: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.intended)

    @classmethod
    def merge(cls, parts: "Sequence[Samples]") -> "Samples":
        """Puts the samples of several generators together."""
        return cls(
            np.concatenate([part.intended for part in parts]),
            np.concatenate([part.lag for part in parts]),
            np.concatenate([part.latency for part in parts]),
            np.concatenate([part.code for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class Measurement:
    """A run and what came of it.

    Attributes:
        plan: What was to be done.
        samples: What was done.
        generator_cpu: Processor seconds per second that each generator process used.
        interrupted_at: Seconds from the start at which the run was broken off; None if it was not.
    """

    plan: Plan
    samples: Samples
    generator_cpu: tuple[float, ...] = ()
    interrupted_at: float | None = None
