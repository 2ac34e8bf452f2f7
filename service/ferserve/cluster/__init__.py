"""Scale-out on Ray Serve, extra ``cluster``: ``serve run ferserve.cluster:app``.

The application of ``ferserve.api.app`` is the ingress, in as many replicas as its load takes; it
decodes images and finds faces. Each model is a deployment of its own, whose replicas are a
``ServedModel`` each, so the batcher and the session are those of the single process. Only cut-out
faces travel
between the two, 2.3 kB each.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application

# Ray reads these when it is imported and when it starts the processes of a node. It would else
# report to its maker, hide log lines that look alike, and have its HTTP proxy word its own errors
# in plain text (see ``ferserve.cluster.proxy``).
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_DEDUP_LOGS"] = "0"
os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = "ferserve.cluster.proxy:middlewares"


def app(args: dict[str, Any]) -> "Application":
    """Builds the application for ``serve run ferserve.cluster:app``.

    Args:
        args: Settings by their names, as ``models=custom_cnn``; others come from the environment.

    Raises:
        ModelError: A file is missing.
        ValueError: Settings contradict each other.
    """
    from ferserve.cluster.application import build
    from ferserve.cluster.settings import ClusterSettings
    from ferserve.settings import Settings

    return build(Settings(**args), ClusterSettings())
