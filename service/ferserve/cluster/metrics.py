"""The metrics of one process of the cluster, and beside them those of the others."""

from collections.abc import Iterable

from prometheus_client import Counter, Metric
from ray import serve

from ferserve.lanes import Lane
from ferserve.metrics import Metrics, render_families


class ClusterMetrics(Metrics):
    """As ``Metrics``, every series with the ``deployment`` and the ``replica`` it comes from.

    Args:
        deployment: What this process is a replica of.
        replica: Which one it is.
        count_emotions: As in ``Metrics``.
    """

    def __init__(self, deployment: str, replica: str, *, count_emotions: bool = False) -> None:
        super().__init__(count_emotions=count_emotions)
        self._own = {"deployment": deployment, "replica": replica}
        self._others: list[Metric] = []
        self._lost = Counter(
            "ferserve_faces_lost",
            "Faces whose replica was lost before it answered, and which were given up.",
            ["model", "lane"],
            registry=self.registry,
        )
        self._retried = Counter(
            "ferserve_faces_retried",
            "Faces whose replica was lost before it answered, and which another was asked for.",
            ["model", "lane"],
            registry=self.registry,
        )

    def faces_lost(self, model: str, lane: Lane, faces: int) -> None:
        """Counts faces that were given up."""
        self._lost.labels(model, lane.value).inc(faces)

    def faces_retried(self, model: str, lane: Lane, faces: int) -> None:
        """Counts faces that another replica was asked for."""
        self._retried.labels(model, lane.value).inc(faces)

    def families(self) -> list[Metric]:
        """Returns what this process has to show, as it stands now."""
        return [_labelled(family, self._own) for family in self.registry.collect()]

    def show_others(self, families: Iterable[Metric]) -> None:
        """Takes what all processes had to show when they were asked; the own is left out."""
        self._others = [family for family in families if not self._is_own(family)]

    def render(self) -> bytes:
        """Returns all in Prometheus' text format."""
        merged: dict[str, Metric] = {}
        for family in (*self.families(), *self._others):
            merged.setdefault(family.name, _like(family)).samples.extend(family.samples)
        return render_families(merged.values())

    def _is_own(self, family: Metric) -> bool:
        return any(self._own.items() <= sample.labels.items() for sample in family.samples)


def metrics_here(*, count_emotions: bool = False) -> ClusterMetrics:
    """Makes the metrics of the replica that this process is."""
    context = serve.get_replica_context()
    replica = context.replica_id.unique_id
    return ClusterMetrics(context.deployment, replica, count_emotions=count_emotions)


def _like(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type)


def _labelled(family: Metric, labels: dict[str, str]) -> Metric:
    copy = _like(family)
    copy.samples = [sample._replace(labels=sample.labels | labels) for sample in family.samples]
    return copy
