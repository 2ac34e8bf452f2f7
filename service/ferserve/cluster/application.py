"""What Ray Serve is to run: the ingress, and a deployment for each model."""

from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from ferserve.bundle import served_card
from ferserve.cluster.forwarding import BenchmarkHost
from ferserve.cluster.front import model_deployment
from ferserve.cluster.ingress import BENCHMARKS, INGRESS, Ingress, IngressApp
from ferserve.cluster.replica import ModelReplica
from ferserve.cluster.settings import ClusterSettings
from ferserve.serving import load_detector, served_names
from ferserve.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application

CONSTRUCTOR_ATTEMPTS = 3
"""A model that cannot be loaded should fail the deployment, not keep it waiting."""

INGRESS_REQUESTS = 1000
"""Most requests in one replica of the ingress; the application itself refuses work far earlier."""


def build(settings: Settings, cluster: ClusterSettings) -> "Application":
    """Builds the application.

    Args:
        settings: As for one process, of which host and port are Ray's business.
        cluster: How many replicas run, and on what.

    Raises:
        ModelError: A file is missing.
        ValueError: Settings contradict each other.
    """
    names = served_names(settings)
    load_detector(settings)  # better a clear word here than a dead replica there
    folder, precision = settings.models_dir, settings.precision
    versions = {name: served_card(folder, name, precision).sha256 for name in names}
    settings = settings.model_copy(
        update={"models": names, "default_model": settings.default_model or names[0]}
    )
    common: dict[str, Any] = {
        "graceful_shutdown_timeout_s": settings.drain_seconds,
        "max_constructor_retry_count": CONSTRUCTOR_ATTEMPTS,
        "logging_config": LoggingConfig(enable_access_log=False),  # we have a log line of our own
    }
    # The batcher should be the one that refuses; Ray's own limits are behind it.
    places = settings.max_queue + settings.max_batch * _workers(settings, cluster)
    models = [
        serve.deployment(
            ModelReplica,
            name=model_deployment(name),
            ray_actor_options={"num_cpus": cluster.replica_cpus, "num_gpus": cluster.replica_gpus},
            max_ongoing_requests=2 * places,
            max_queued_requests=settings.max_queue,
            **_scale(cluster.min_replicas, cluster.max_replicas, cluster.target_requests),
            **common,
        ).bind(cluster.of_replica(settings, name), sha256)
        for name, sha256 in versions.items()
    ]
    lone_benchmarks = cluster.max_ingresses > 1
    others = list(models)
    if lone_benchmarks:
        host = serve.deployment(
            BenchmarkHost,
            name=BENCHMARKS,
            num_replicas=1,
            ray_actor_options={"num_cpus": 0},  # it yields to all others anyway
            max_ongoing_requests=INGRESS_REQUESTS,
            **common,
        )
        others.append(host.bind(settings, versions))

    def make_app() -> IngressApp:
        return IngressApp(settings, versions, lone_benchmarks=lone_benchmarks)

    ingress = serve.deployment(
        serve.ingress(make_app)(Ingress),
        name=INGRESS,
        ray_actor_options={"num_cpus": cluster.ingress_cpus},
        max_ongoing_requests=INGRESS_REQUESTS,
        **_scale(cluster.min_ingresses, cluster.max_ingresses, cluster.target_requests),
        **common,
    )
    return ingress.bind(*others)


def _workers(settings: Settings, cluster: ClusterSettings) -> int:
    return settings.inference_workers or max(1, round(cluster.replica_cpus))


def _scale(least: int, most: int, target: float) -> dict[str, Any]:
    """Says how many replicas run: as many as queue up for, where there is a choice."""
    if least == most:
        return {"num_replicas": least}
    config = AutoscalingConfig(
        min_replicas=least, max_replicas=most, target_ongoing_requests=target
    )
    return {"autoscaling_config": config}
