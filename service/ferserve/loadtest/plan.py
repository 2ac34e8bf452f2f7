"""What a load test does."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ferserve.loadtest.payloads import Payload


@dataclass(frozen=True)
class OpenLoop:
    """Requests at Poisson-distributed times that no answer can delay.

    Attributes:
        rate: Requests a second.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"the rate must be above 0, is {self.rate}")

    def __str__(self) -> str:
        return f"{self.rate:g}/s"

    def share(self, _index: int, processes: int) -> "OpenLoop":
        """Returns what one of several processes does."""
        return OpenLoop(self.rate / processes)


@dataclass(frozen=True)
class ClosedLoop:
    """Clients that each send their next request when the last was answered.

    Attributes:
        concurrency: Number of clients.
    """

    concurrency: int

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"the concurrency must be at least 1, is {self.concurrency}")

    def __str__(self) -> str:
        return f"{self.concurrency} client{'s' if self.concurrency > 1 else ''}"

    def share(self, index: int, processes: int) -> "ClosedLoop":
        """Returns what one of several processes does."""
        each, more = divmod(self.concurrency, processes)
        return ClosedLoop(each + (index < more))


@dataclass(frozen=True)
class Plan:
    """One run against one address.

    Attributes:
        url: Where requests are posted to.
        load: How many, and when.
        payloads: The bodies; each request takes one at random, all equally likely.
        seconds: How long is measured, after the warm-up.
        warm_up: Seconds before; what is due then is sent but not counted.
        processes: Generator processes. More than there are clients are not started.
        timeout: Longest wait for an answer, seconds.
        headers: More headers of every request.
        seed: The same seed sends the same payloads, in an open loop at the same times.
    """

    url: str
    load: OpenLoop | ClosedLoop
    payloads: tuple[Payload, ...]
    seconds: float = 10.0
    warm_up: float = 2.0
    processes: int = 1
    timeout: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.payloads:
            raise ValueError("there is no payload to send")
        if self.seconds <= 0 or self.warm_up < 0 or self.timeout <= 0:
            raise ValueError("seconds and timeout must be above 0, warm_up at least 0")
        if self.processes < 1:
            raise ValueError(f"there must be at least 1 process, not {self.processes}")

    @property
    def total_seconds(self) -> float:
        """Seconds in which requests are sent."""
        return self.warm_up + self.seconds

    @property
    def used_processes(self) -> int:
        """Generator processes that have something to do."""
        if isinstance(self.load, ClosedLoop):
            return min(self.processes, self.load.concurrency)
        return self.processes
