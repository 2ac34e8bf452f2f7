"""``ferserve serve --engine ray``: Ray on this machine, or an application more on a running one."""

import logging
import os
import signal
import sys
import threading
from types import FrameType

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from ferserve import logs
from ferserve.api.server import KEEP_ALIVE_SECONDS
from ferserve.bundle import ModelError
from ferserve.cluster.application import build
from ferserve.cluster.machine import start_ray
from ferserve.cluster.settings import ClusterSettings
from ferserve.serving import served_names
from ferserve.settings import Settings, usable_cpus

APPLICATION = "ferserve"

logger = logging.getLogger(__name__)


def run(settings: Settings, cluster: ClusterSettings) -> None:
    """Serves until SIGTERM or SIGINT, then answers what is under way and returns.

    A second signal ends the process at once, with status 128 + the signal's number.

    Raises:
        SystemExit: With status 1 when start-up failed; the log says why.
    """
    logs.configure(settings.log_format)
    stop = threading.Event()
    try:
        application = build(settings, cluster)
        _connect(cluster, len(served_names(settings)))
        _on_signals(stop)  # not earlier: Ray sets a handler of its own
        serve.start(
            proxy_location="EveryNode",
            http_options=HTTPOptions(
                host=settings.host,
                port=settings.port,
                keep_alive_timeout_s=KEEP_ALIVE_SECONDS,
            ),
            logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
        )
        serve.run(application, name=APPLICATION)
    except (ModelError, ValueError, RuntimeError, ConnectionError) as error:
        logger.critical("cannot start: %s", error)
        ray.shutdown()
        sys.exit(1)
    logger.info("ready on http://%s:%d", settings.host, settings.port)
    stop.wait()
    logger.info("stopping")
    try:
        if cluster.address:
            serve.delete(APPLICATION)
        else:
            serve.shutdown()
    except TimeoutError:
        logger.warning("some replicas are still working; Ray goes on to stop them")
    ray.shutdown()


def _on_signals(stop: threading.Event) -> None:
    def end(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)  # Ray ends what it started when it misses this process
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _connect(cluster: ClusterSettings, models: int) -> None:
    """Joins the running cluster of the settings, or starts one of this machine alone."""
    if cluster.address:
        ray.init(cluster.address, logging_level=logging.WARNING)
        return
    promised = models * cluster.max_replicas * cluster.replica_cpus
    promised += cluster.max_ingresses * cluster.ingress_cpus
    start_ray(max(usable_cpus(), promised))
