"""Preparing the first processes of several places at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from .place import ProcessPlace


async def prepare_all(places: Iterable[ProcessPlace], *, at_a_time: int) -> None:
    """Start the first process of each place ahead of its actor, in order, so many at a time.

    The actors start one after the other (B1), each once the one before is ready. What takes long is the preparation,
    and that need not wait for anybody.

    Args:
        places: in the order in which their actors start.
        at_a_time: how many may prepare themselves at once. With more than there are cores all of them take longer,
            and the first one's start timeout runs.
    """
    left = deque(places)

    async def one_after_the_other() -> None:
        while left:
            process = left.popleft().prepare()
            if process is not None:
                await asyncio.wait((process.prepared, process.exited), return_when=asyncio.FIRST_COMPLETED)

    await asyncio.gather(*(one_after_the_other() for _ in range(at_a_time)))
