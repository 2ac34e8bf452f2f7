"""One page of metrics for all processes: the engine's, with those of the fronts added."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain

from prometheus_client import Metric

from ferserve.fronts.channel import CallFailed, ChannelLost
from ferserve.metrics import Metrics, render_families

ASK_SECONDS = 2.0
"""Time that a front has to show its metrics; Prometheus waits for ten by default."""

ENGINES_OWN = frozenset({"ferserve_ready", "python_info", "process_start_time_seconds"})
"""Of these the engine's are shown; of all others the sum over the processes."""

Ask = Callable[[], Awaitable[list[Metric]]]


class FleetMetrics(Metrics):
    """The engine's metrics, and beside them those of the fronts.

    A front that died goes on to count with what it last showed: counters that fall look like a
    restart of the whole service to Prometheus.
    """

    def __init__(self, *, count_emotions: bool = False) -> None:
        super().__init__(count_emotions=count_emotions)
        self._asking: dict[int, Ask] = {}
        self._shown: dict[int, list[Metric]] = {}
        self._past: list[Metric] = []

    def front_joined(self, front: int, ask: Ask) -> None:
        """Takes a front's metrics into the page from now on."""
        self._asking[front] = ask

    def front_left(self, front: int) -> None:
        """Keeps what the front had counted when it last was asked."""
        self._asking.pop(front, None)
        shown = self._shown.pop(front, [])
        counted = [family for family in shown if family.type in ("counter", "histogram")]
        self._past = add_families(chain(self._past, counted))

    async def page(self) -> bytes:
        """Asks every front, and returns all in Prometheus' text format."""
        await asyncio.gather(*(self._ask(*asking) for asking in list(self._asking.items())))
        fronts = chain(self._past, *self._shown.values())
        shared = (family for family in fronts if family.name not in ENGINES_OWN)
        return render_families(add_families(chain(self.families(), shared)))

    async def _ask(self, front: int, ask: Ask) -> None:
        # One that does not answer in time is shown as it was.
        with contextlib.suppress(TimeoutError, ChannelLost, CallFailed):
            async with asyncio.timeout(ASK_SECONDS):
                families = await ask()
            if self._asking.get(front) is ask:
                self._shown[front] = families


def add_families(families: Iterable[Metric]) -> list[Metric]:
    """Adds up samples of the same name and labels; of times of creation the first is kept."""
    sums: dict[str, tuple[Metric, dict[tuple[object, ...], int]]] = {}
    for family in families:
        empty = Metric(family.name, family.documentation, family.type)
        total, places = sums.setdefault(family.name, (empty, {}))
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            if key not in places:
                places[key] = len(total.samples)
                total.samples.append(sample)
                continue
            before = total.samples[places[key]]
            if sample.name.endswith("_created"):
                value = min(before.value, sample.value)
            else:
                value = before.value + sample.value
            total.samples[places[key]] = before._replace(value=value)
    return [total for total, _ in sums.values()]
