"""Submitting LLM batches and asking about them: the half of a runtime that is about batches."""

from __future__ import annotations

import abc
from collections.abc import Collection
from uuid import UUID

from callboard.actors.batches.ports import BatchStore
from callboard.actors.batches.state import BatchStatus
from callboard.actors.batches.types import BatchRecord
from callboard.actors.pulse import Pulse

from .batch_desk import BatchDesk, Requests
from .batch_ref import BatchRef


class BatchClient(abc.ABC):
    """Everything one can do to batches. ``Runtime`` adds the life cycle."""

    pulse: Pulse
    poll_interval_seconds: float

    @property
    @abc.abstractmethod
    def batch_store(self) -> BatchStore:
        """The batches of a started runtime.

        Raises:
            RuntimeStopped: it has not started, or has stopped.
        """

    @property
    @abc.abstractmethod
    def _batch_desk(self) -> BatchDesk: ...

    async def submit_batch(self, provider: str, requests: Requests, *, endpoint: str | None = None) -> BatchRef:
        """Submit requests to a provider as one batch. It is recorded before it is sent, and paid for once.

        Args:
            provider: ``"anthropic"``, ``"openai"``, or a name given to ``Runtime(providers=...)``.
            requests: what to ask: ``BatchRequest``, or mappings with ``custom_id`` and ``params``.
            endpoint: of OpenAI's, what the requests are for; default ``/v1/chat/completions``.

        Returns:
            A reference. Its status says what became of the submission: ``running``; ``failed`` where the provider
            refused it; ``submitting`` or ``unknown`` where it could not be reached, or did not answer: the poller goes
            on from there.

        Raises:
            InvalidBatch: a request is malformed, two have one ``custom_id``, or they are more than a batch holds.
                Nothing was recorded or sent.
            ConfigurationError: the provider is unknown, its SDK is not installed, or nobody polls batches.
            StoreUnavailable: the database cannot be reached. If that happened after the submission, the poller finds
                the batch at the provider; to submit the same again then makes another batch.
        """
        [batch] = await self._batch_desk.submit(provider, requests, endpoint=endpoint, several=False)
        return BatchRef(self, batch.id, batch.provider)

    async def submit_batches(self, provider: str, requests: Requests, *, endpoint: str | None = None) -> list[BatchRef]:
        """Submit requests as as many batches as the provider's limits ask for, in their order.

        Args, Raises: as for ``submit_batch``; too large is only a request that alone is larger than a batch may be.
        """
        batches = await self._batch_desk.submit(provider, requests, endpoint=endpoint, several=True)
        return [BatchRef(self, batch.id, batch.provider) for batch in batches]

    async def get_batch(self, batch_id: UUID) -> BatchRef:
        """Return a reference to an existing batch.

        Raises:
            BatchNotFound: there is none.
        """
        batch = await self._batch_desk.require(batch_id)
        return BatchRef(self, batch.id, batch.provider)

    async def batches(
        self,
        *,
        statuses: Collection[BatchStatus] = (),
        provider: str | None = None,
        limit: int = 100,
        before: UUID | None = None,
    ) -> list[BatchRecord]:
        """List batches, newest first.

        Args:
            statuses: only those; default all.
            provider: only this one's.
            limit: how many at most.
            before: continue after this batch, the last one of the page before.
        """
        return await self.batch_store.list_batches(statuses=statuses, provider=provider, limit=limit, before=before)

    async def cancel_batch(self, batch_id: UUID) -> bool:
        """Cancel a batch; see ``BatchRef.cancel``."""
        return await self._batch_desk.cancel(batch_id)
