"""References to LLM batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol
from uuid import UUID

from callboard.actors.batches.ports import BatchStore
from callboard.actors.batches.state import BatchStatus
from callboard.actors.batches.types import BatchRecord, BatchResult
from callboard.actors.errors import BatchNotFound
from callboard.actors.pulse import Pulse

PAGE_ITEMS: Final = 1_000


class BatchCounter(Protocol):
    """Where references find batches: a runtime."""

    pulse: Pulse
    poll_interval_seconds: float

    @property
    def batch_store(self) -> BatchStore:
        """The batches of a started runtime."""

    async def cancel_batch(self, batch_id: UUID) -> bool:
        """Cancel a batch; False if it had ended or was cancelled before."""


class BatchRef:
    """One batch. Holds no resources; equal to every other reference to the same batch.

    Attributes:
        id: the batch's id, a UUIDv7. The provider's console shows it too: as metadata, or before each request's name.
        provider: who runs it.
    """

    def __init__(self, counter: BatchCounter, batch_id: UUID, provider: str) -> None:
        self._counter = counter
        self.id = batch_id
        self.provider = provider

    def __repr__(self) -> str:
        return f"<BatchRef {self.provider} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def record(self) -> BatchRecord:
        """Read everything that is stored about the batch, without its items.

        Raises:
            BatchNotFound: it does not exist (any more).
        """
        record = await self._counter.batch_store.get(self.id)
        if record is None:
            raise BatchNotFound(self.id)
        return record

    async def status(self) -> BatchStatus:
        """Read the batch's status. Raises ``BatchNotFound``."""
        return (await self.record()).status

    async def ended(self, timeout: float | None = None) -> BatchRecord:
        """Wait for the batch's end.

        Args:
            timeout: seconds to wait; None (default) waits as long as it takes. The batch goes on after a timeout.

        Raises:
            TimeoutError: it has not ended yet.
            BatchNotFound: it does not exist (any more).
        """
        async with asyncio.timeout(timeout):
            while not (record := await self.record()).status.is_terminal:
                await self._counter.pulse.wait(self._counter.poll_interval_seconds)
        return record

    async def results(self, timeout: float | None = None) -> list[BatchResult]:
        """Wait for the batch's end, however it ends; return every request and what became of it, in order.

        Raises:
            TimeoutError: it has not ended yet; ``collected`` has what there is.
            BatchNotFound: it does not exist (any more).
        """
        await self.ended(timeout)
        return [result async for result in self.collected()]

    async def collected(self) -> AsyncGenerator[BatchResult, None]:
        """Yield every request and what is known of it now, in order, without waiting."""
        after = -1
        while True:
            page: Sequence[BatchResult] = await self._counter.batch_store.results(
                self.id, after=after, limit=PAGE_ITEMS
            )
            for result in page:
                yield result
            if len(page) < PAGE_ITEMS:
                return
            after += len(page)

    async def cancel(self) -> bool:
        """Cancel the batch. On return it is sure to end ``cancelled``, and not before what it finished is collected.

        The provider is told at once, or, where that fails, by the poller.

        Returns:
            True if this call cancelled it; False if it had ended, or was cancelled, before.

        Raises:
            BatchNotFound: it does not exist (any more).
        """
        return await self._counter.cancel_batch(self.id)
