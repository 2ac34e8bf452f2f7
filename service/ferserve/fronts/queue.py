"""A model that computes in the engine: asked like a batcher, by a front."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from ferserve.batcher import Answer, BatcherClosed, BatchFailed, DeadlineExceeded, Lane
from ferserve.fronts.channel import CallFailed, Channel, ChannelLost
from ferserve.fronts.memory import Slots
from ferserve.lanes import QueueFull
from ferserve.logs import REQUEST_ID
from ferserve.observers import BatchObserver
from ferserve.preparation import FaceImage
from ferserve.serving import Scores

GRACE_SECONDS = 1.0
"""The engine itself keeps deadlines; for so much longer its word is waited for."""


class EngineQueue:
    """Hands faces to the engine's batcher of a model.

    Args:
        channel: To the engine.
        slots: Of this front, for the faces of all models.
        model: Name of the model.
        observer: Hears of faces that found no slot; of all others the engine's batcher tells.

    Attributes:
        engine_healthy: What the engine last said of its batcher.
    """

    def __init__(self, channel: Channel, slots: Slots, model: str, observer: BatchObserver) -> None:
        self.engine_healthy = True
        self._channel = channel
        self._slots = slots
        self._model = model
        self._observer = observer
        self._open = False

    @property
    def healthy(self) -> bool:
        """Whether faces are taken and answered."""
        return self._open and self.engine_healthy

    def start(self) -> None:
        """Begins to take faces."""
        self._open = True

    async def submit(
        self, items: Sequence[FaceImage], deadline: float, lane: Lane = Lane.LIVE
    ) -> list[Answer[Scores]]:
        """Has the engine rate the faces; cancelling takes them out of its queue.

        Args:
            items: uint8 ``[48, 48]`` each.
            deadline: Latest time of the answers, on the clock of ``time.monotonic``, which all
                processes of a machine share.
            lane: Background faces yield to live ones.

        Returns:
            An answer for each face, in order; its times are the engine's.

        Raises:
            QueueFull: They do not fit in the engine's queue.
            DeadlineExceeded: The answers were not there by ``deadline``.
            BatchFailed: The inference failed; the engine's log says why.
            BatcherClosed: No worker will take the faces.
        """
        if not self._open:
            raise BatcherClosed("the service is stopped")
        if not items:
            return []
        try:
            slots = self._slots.put(items)
        except QueueFull:
            self._observer.rejected(lane, len(items))
            raise
        try:
            call = self._channel.begin("rate", self._model, slots, deadline, lane, REQUEST_ID.get())
        except ChannelLost as problem:
            self._slots.give_back(slots)
            raise BatcherClosed("the engine is gone") from problem
        try:
            async with asyncio.timeout(deadline - monotonic() + GRACE_SECONDS):
                outcome = await asyncio.shield(call.ended)
            if outcome.error is None:
                return self._slots.read(slots)
        except TimeoutError:
            raise DeadlineExceeded("the engine took too long") from None
        finally:
            if call.ended.done():
                self._slots.give_back(slots)
            else:
                # The engine may still write into them.
                call.ended.add_done_callback(lambda _: self._slots.give_back(slots))
                self._channel.cancel(call)
        if isinstance(outcome.error, ChannelLost):
            raise BatcherClosed("the engine is gone")
        if isinstance(outcome.error, CallFailed):
            raise BatchFailed(str(outcome.error))
        raise outcome.error

    async def close(self) -> None:
        """Takes no more faces."""
        self._open = False
