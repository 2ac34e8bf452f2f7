"""Waiting for what a test cannot be told of."""

import asyncio
from collections.abc import Callable

PATIENCE = 20.0


async def until(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; fails after ``PATIENCE`` seconds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what changes it knows nothing of this loop
            await asyncio.sleep(0.005)
