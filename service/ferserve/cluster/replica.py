"""A model's replica: the ``ServedModel`` of a single process, asked from other processes."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from ray import serve

from ferserve import logs
from ferserve.batcher import Answer, Lane
from ferserve.bundle import ModelError
from ferserve.cluster.metrics import metrics_here
from ferserve.errors import InternalError, NotReady, Refusal
from ferserve.preparation import FaceImage
from ferserve.serving import Description, Scores, describe, load_models
from ferserve.settings import Settings

logger = logging.getLogger(__name__)


class ModelReplica:
    """Answers for one model.

    Args:
        settings: With this one model.
        sha256: Of the model that the deployment was made for.

    Raises:
        ModelError: The model cannot be served, or the files of this machine are others.
    """

    def __init__(self, settings: Settings, sha256: str) -> None:
        logs.configure(settings.log_format)
        self._metrics = metrics_here()
        (self._model,) = load_models(settings, self._metrics).values()
        facts = self._model.bundle
        if facts.card.sha256 != sha256:
            raise ModelError(
                f"{settings.models_dir}: {facts.card.name} is not the one that was deployed; "
                "every machine of the cluster needs the same files"
            )
        facts.warm_up()
        alone = describe(self._model)
        replicas = serve.get_replica_context().world_size
        self._description = replace(alone, background_streams=alone.background_streams * replicas)
        self._model.batcher.start()

    async def describe(self) -> Description | Refusal:
        """Returns what all replicas together are; for as long as this one's workers live."""
        if not self._model.batcher.healthy:
            return NotReady("a worker died")
        return self._description

    async def rate(
        self, faces: Sequence[FaceImage], seconds: float, lane: Lane, sha256: str
    ) -> list[Answer[Scores]] | Refusal:
        """Rates faces.

        Args:
            faces: uint8 ``[N, 48, 48]``.
            seconds: Time left; clocks differ between machines.
            lane: As in ``Batcher.submit``.
            sha256: Of the model that the caller takes this one for.
        """
        if sha256 != self._description.card.sha256:
            return NotReady("the replica has another version of the model")
        deadline = monotonic() + seconds if math.isfinite(seconds) else math.inf
        try:
            return await self._model.batcher.submit(list(faces), deadline, lane)
        except InternalError as failure:
            logger.error("a batch failed", exc_info=failure)  # its cause does not travel
            return failure
        except Refusal as refusal:
            return refusal  # not raised: Ray would wrap, and log it

    async def families(self) -> list[Any]:
        """Returns this replica's metrics, for ``/metrics``."""
        return self._metrics.families()

    def check_health(self) -> None:
        """Has Ray replace the replica when its workers stay dead."""
        if not self._model.batcher.healthy:
            raise NotReady("a worker died")
