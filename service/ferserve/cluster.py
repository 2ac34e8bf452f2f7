"""Scale-out on Ray Serve, extra ``cluster``: whole replicas of the application of ``ferserve.api``.

There are two applications of Ray's. ``service`` runs in as many replicas as its load takes.
``benchmarks``, below ``/v1/benchmark``, has exactly one replica, which therefore knows every job.
"""

import contextlib
import logging
import math
import os
import secrets
import signal
import sys
import threading
from typing import Any, NoReturn

# Ray reads these when it is imported, and when it starts the processes of a node.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would otherwise report to its maker
os.environ["RAY_DEDUP_LOGS"] = "0"  # otherwise Ray hides similar log lines
os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = "ferserve.cluster:middlewares"

import ray
from fastapi import FastAPI
from prometheus_client import start_http_server
from ray import serve
from ray.serve import Application
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferserve import logs
from ferserve.api.app import create_app
from ferserve.api.middleware import AnswerFaults, RequestContext
from ferserve.api.server import KEEP_ALIVE_SECONDS
from ferserve.errors import NotFound, NotReady
from ferserve.metrics import Metrics
from ferserve.serving import load_detector, served_names
from ferserve.settings import ClusterSettings, Settings, usable_cpus

SERVICE, BENCHMARKS = "ferserve", "ferserve-benchmarks"

TARGET_REQUESTS = 8
"""Requests and streams under way per replica that autoscaling aims at."""

logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then answers the requests under way and returns.

    Raises ModelError where files are missing, ValueError where settings contradict each other, and
    SystemExit with status 1 when start-up failed; the log says why.
    """
    logs.configure(settings.log_format)
    settings, cluster = settings.for_listening(), ClusterSettings()
    served_names(settings)  # better a clear word here than a dead replica there
    load_detector(settings)
    applications = [
        serve.RunTarget(benchmarks(dict(settings)), BENCHMARKS, "/v1/benchmark"),
        serve.RunTarget(service(dict(settings)), SERVICE, "/"),
    ]
    address = {"host": settings.host, "port": settings.port}
    try:
        start_ray((cluster.max_replicas + 1) * cluster.replica_cpus)
        for number in (signal.SIGTERM, signal.SIGINT):  # not earlier: Ray sets a handler of its own
            signal.signal(number, signal.default_int_handler)
        serve.start(
            proxy_location="EveryNode",
            http_options=address | {"keep_alive_timeout_s": KEEP_ALIVE_SECONDS},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        serve.run_many(applications)
        logger.info("ready on http://%s:%d", settings.host, settings.port)
        threading.Event().wait()
    except KeyboardInterrupt:
        logger.info("stopping")
        for name in (SERVICE, BENCHMARKS):
            with contextlib.suppress(TimeoutError):  # Ray goes on to stop replicas that still work
                serve.delete(name)
    except (ValueError, RuntimeError, ConnectionError) as error:
        logger.critical("cannot start: %s", error)
        sys.exit(1)
    finally:
        ray.shutdown()  # with it ends what was started here


def service(args: dict[str, Any]) -> Application:
    """Builds the service, for the route prefix ``/``.

    ``args`` are settings by their names; others, and the cluster's, come from the environment.
    """
    return _application(Settings(**args), ClusterSettings())


def benchmarks(args: dict[str, Any]) -> Application:
    """Builds the benchmarks, for the route prefix ``/v1/benchmark``."""
    return _application(Settings(**args), ClusterSettings(min_replicas=1, max_replicas=1))


def start_ray(processors: float) -> None:
    """Joins the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine.

    Ray may then allocate that many processors, even if there are fewer.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address, logging_level=logging.WARNING)
        return
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        # Only those who have the token can have Ray run their code; Ray's own would be in a file.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ray.init(
        "local",
        num_cpus=max(usable_cpus(), math.ceil(processors)),
        include_dashboard=False,
        object_store_memory=256 * 1024 * 1024,  # for large uploads on their way
        logging_level=logging.WARNING,
        # Images must not reach a disk, not even when memory is short.
        _system_config={"automatic_object_spilling_enabled": False},
    )


def middlewares() -> list[Middleware]:
    """Returns what Ray's HTTP proxy runs around itself."""
    return [Middleware(problems_for_errors)]


class Replica:
    """What Ray knows of a replica, beside its application."""

    app: FastAPI

    def check_health(self) -> None:
        """Has Ray replace the replica while a worker of it stays dead, as ``/readyz`` says."""
        if reason := self.app.state.recognizer.not_ready_reason:
            raise NotReady(reason)


def whole_paths(app: ASGIApp, root_path: str) -> ASGIApp:
    """Leaves an application its paths: Ray tells it that its route prefix is no part of them."""
    return lambda scope, receive, send: app({**scope, "root_path": root_path}, receive, send)


def problems_for_errors(proxy: ASGIApp) -> ASGIApp:
    """Answers in the API's words where Ray would answer in its own, because no replica did."""
    refuse = RequestContext(AnswerFaults(_no_replica), Metrics(), lambda: False)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):  # the proxy's own
            await proxy(scope, receive, send)
            return
        passes = False

        async def send_ours(message: Message) -> None:
            nonlocal passes
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                passes = "x-content-type-options" in headers  # the application's, never Ray's
                headers["X-Request-ID"] = headers["X-Request-ID"]  # the first; Ray adds another
            if passes:
                await send(message)

        await proxy(scope, receive, send_ours)
        if not passes:
            await refuse(scope, receive, send)

    return answer


def _application(settings: Settings, cluster: ClusterSettings) -> Application:
    settings = cluster.for_replica(settings)
    deployment = serve.deployment(
        serve.ingress(lambda: _make_app(settings, cluster.metrics_port))(Replica),
        ray_actor_options={"num_cpus": cluster.replica_cpus, "num_gpus": cluster.replica_gpus},
        autoscaling_config={
            "min_replicas": cluster.min_replicas,
            "max_replicas": cluster.max_replicas,
            "target_ongoing_requests": TARGET_REQUESTS,
        },
        max_ongoing_requests=1000 + settings.max_queue,  # the application should refuse first
        graceful_shutdown_timeout_s=settings.drain_seconds,
        max_constructor_retry_count=3,  # a model that cannot be loaded should fail the start
        logging_config={"enable_access_log": False},  # we have a log line of our own
    )
    return deployment.bind()


def _make_app(settings: Settings, metrics_port: int) -> FastAPI:
    """Makes the application of a replica, in the replica."""
    logs.configure(settings.log_format)
    app = create_app(settings)
    app.add_middleware(whole_paths, root_path=settings.root_path)
    app.router.routes.insert(0, Route("/metrics", _metrics_elsewhere))
    for port in range(metrics_port, 65_536):
        with contextlib.suppress(OSError):  # another replica's
            start_http_server(port, settings.host, app.state.metrics.registry)
            logger.info("metrics on http://%s:%d", settings.host, port)
            return app
    raise RuntimeError(f"no port from {metrics_port} on is free for metrics")


async def _metrics_elsewhere(_request: Request) -> NoReturn:
    # The proxy would show one replica's now and another's then.
    raise NotFound("every replica shows its metrics on a port of its own")


async def _no_replica(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    raise NotReady("the service is starting, is stopped, or has lost the replica of this request")
