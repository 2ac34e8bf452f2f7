"""A model whose replicas are other processes: asked like a batcher, through Ray."""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from ferserve.batcher import Answer, Lane
from ferserve.cluster.metrics import ClusterMetrics
from ferserve.errors import DeadlineExceeded, InternalError, NotReady, QueueFull, Refusal
from ferserve.preparation import FaceImage
from ferserve.serving import Description, Scores, ServedModel

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

PROBE_PAUSE = 1.0
"""Seconds between two looks at whether a model's replicas answer."""

PROBE_SECONDS = 5.0
"""Time they have: they may be busy, but not for so long."""

FULL_PAUSE = 0.05
"""Seconds before background work that found a replica's queue full is offered again."""

logger = logging.getLogger(__name__)


async def connect(
    handle: "DeploymentHandle[Any]", sha256: str, metrics: ClusterMetrics
) -> ServedModel:
    """Waits until a replica answers with the model of this hash, and puts a queue before all."""
    while True:
        try:
            found: Description = await _ask(handle.describe.remote())
        except (NotReady, QueueFull, InternalError) as problem:
            logger.info("waiting for %s: %s", handle.deployment_name, problem)
        else:
            if found.card.sha256 == sha256:
                queue = RemoteQueue(handle, found, metrics)
                return ServedModel(found, queue, found.background_batch, found.background_streams)
        await asyncio.sleep(PROBE_PAUSE)


class RemoteQueue:
    """Sends faces to the replicas of a model; Ray picks the less busy of two for each call.

    What a lost replica was working on is sent to another, once: to rate a face twice does no harm.

    Args:
        handle: Of the model's deployment.
        description: The model.
        metrics: Counts what was lost; what waits and what is computed, replicas count.
    """

    def __init__(
        self, handle: "DeploymentHandle[Any]", description: Description, metrics: ClusterMetrics
    ) -> None:
        self._handle = handle
        self._name = description.card.name
        self._sha256 = description.card.sha256
        self._metrics = metrics
        self._healthy = False
        self._closed = False
        self._watch: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether a replica answered when last looked."""
        return self._healthy and not self._closed

    def start(self) -> None:
        """Begins to look after the replicas; one has just answered."""
        self._healthy = True
        self._watch = asyncio.create_task(self._look_after())

    async def submit(
        self, items: Sequence[FaceImage], deadline: float, lane: Lane = Lane.LIVE
    ) -> list[Answer[Scores]]:
        """Has a replica rate the faces, all the same one.

        Args:
            items: uint8 ``[48, 48]`` each.
            deadline: Latest time of the answers, on the clock of ``time.monotonic``.
            lane: Background faces yield to live ones.

        Returns:
            An answer for each face, in order; its times are the replica's.

        Raises:
            QueueFull: They do not fit in the replica's queue, or every replica has too many calls.
            DeadlineExceeded: The answers were not there by ``deadline``.
            InternalError: The inference failed; the replica's log says why.
            NotReady: Two replicas were lost, or none answers.
        """
        if self._closed:
            raise NotReady("the service is stopped")
        if not items:
            return []
        faces = np.stack(items)
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await self._submit(faces, deadline, lane)
        except TimeoutError:
            raise DeadlineExceeded("the answer took too long") from None

    async def close(self) -> None:
        """Takes no more faces; what is under way is answered."""
        self._closed = True
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def _submit(self, faces: FaceImage, deadline: float, lane: Lane) -> list[Answer[Scores]]:
        lost_before = False
        while True:
            left = deadline - monotonic()
            try:
                answers: list[Answer[Scores]] = await _ask(
                    self._handle.rate.remote(faces, left, lane, self._sha256)
                )
                return answers
            except QueueFull:
                if lane is Lane.LIVE:
                    raise
                await asyncio.sleep(FULL_PAUSE)
            except NotReady as problem:
                if lost_before:
                    self._metrics.faces_lost(self._name, lane, len(faces))
                    raise
                lost_before = True
                logger.warning("%s: %s; asking another replica", self._name, problem)
                self._metrics.faces_retried(self._name, lane, len(faces))

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(PROBE_PAUSE)
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    found: Description = await _ask(self._handle.describe.remote())
                healthy = found.card.sha256 == self._sha256
            except (TimeoutError, NotReady, InternalError):
                healthy = False
            except QueueFull:  # busy, but there
                healthy = True
            if healthy != self._healthy:
                logger.warning("%s: %s", self._name, "answers" if healthy else "does not answer")
            self._healthy = healthy


async def _ask(response: Any) -> Any:
    """Awaits a replica's answer, and raises what it refused with or what became of it.

    Args:
        response: Ray's, of a method that returns a ``Refusal`` instead of raising it.

    Raises:
        QueueFull: Ray holds too many calls already.
        InternalError: The replica's code failed.
        NotReady: The replica was lost, or there is none.
    """
    try:
        outcome = await response
    except BackPressureError:
        raise QueueFull("every replica has too many requests waiting") from None
    except RayTaskError as error:
        raise InternalError("the replica failed") from error
    except (RayError, RayServeException) as error:
        raise NotReady(f"no replica answered: {type(error).__name__}") from error
    except asyncio.CancelledError:
        response.cancel()
        raise
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome
