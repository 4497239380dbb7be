"""What batches ask of the world outside: a store, and somebody who measures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from callboard.actors.breaker import BreakerState
from callboard.actors.jobs.types import AttemptKey

from .metrics import BatchPollingMetrics
from .provider import BatchLimits, ProviderBatch
from .state import BatchStatus, ItemStatus
from .types import (
    BatchNote,
    BatchRecord,
    BatchResult,
    Collected,
    NewBatch,
    Outcome,
    Stray,
    WaitingRequest,
    WireRequest,
)


class BatchStore(Protocol):
    """Batches and their items.

    Every method is one transaction, and raises ``StoreUnavailable`` as a ``JobStore`` does. Repeating is safe: nothing
    is recorded, submitted or collected twice by it. Times are the database's. A ``term``, where one is given, must be
    the leader's current one, or the write is refused (``StaleTerm``).
    """

    async def record(self, batch: NewBatch, *, grace_seconds: float, actor: str) -> None:
        """Record the intent, ``submitting``: durable before anything is sent.

        Args:
            batch: with its items.
            grace_seconds: so long nobody else looks after it.
            actor: who does it.
        """

    async def take_submission(
        self, batch_id: UUID, submissions: int, *, grace_seconds: float, term: int | None = None
    ) -> bool:
        """Set out to submit it (again): count that, and keep others off for a while.

        Args:
            batch_id: a batch that is not confirmed.
            submissions: as last read; if it is more by now, somebody else has set out.
            grace_seconds: for so long.
            term: the leader's, where it does this.
        """

    async def confirm(self, batch_id: UUID, answer: ProviderBatch, *, term: int | None = None) -> BatchRecord | None:
        """The provider has it, by this name: ``running``, or ``cancelling`` if it is not wanted any more.

        Returns:
            The batch as it is now, with whichever name came first; None if there is no such batch.
        """

    async def note(
        self, batch_id: UUID, note: BatchNote, *, status: BatchStatus | None = None, term: int | None = None
    ) -> bool:
        """Write what a poll found out; False, and it changes nothing, where the batch has ended.

        Args:
            batch_id: the batch.
            note: what.
            status: the other unconfirmed status, where it changes between those two.
            term: the leader's.
        """

    async def collect(
        self,
        batch_id: UUID,
        outcomes: Sequence[Outcome],
        strays: Sequence[Stray],
        *,
        ended_as: BatchStatus,
        resubmissions: int = 0,
        term: int | None = None,
    ) -> Collected:
        """Record outcomes, each item's first one only. With the last item's the batch ends, in the same transaction.

        A batch that has ended takes none. Where a job has asked what is worth another try, its request is put back
        in the same transaction, to be gathered again, unless the batch was cancelled.

        Args:
            batch_id: the batch.
            outcomes: of its items.
            strays: results of nobody; kept beside the batch, each name's first one.
            ended_as: the status that its end means, if nobody cancelled it.
            resubmissions: so often at most a request is put back.
            term: the leader's.

        Raises:
            ValueNotStorable: one does not fit; nothing was written.
        """

    async def end(
        self,
        batch_id: UUID,
        status: BatchStatus,
        *,
        leftover: ItemStatus,
        error: str | None,
        resubmissions: int = 0,
        term: int | None = None,
    ) -> Collected:
        """End a batch as it is; items without an outcome get ``leftover``. One that has ended is left alone.

        Args:
            batch_id: the batch.
            status: the status that this means, if nobody cancelled it.
            leftover: what became of the others.
            error: why, for the batch and for those.
            resubmissions: so often at most requests of jobs that get ``leftover`` are put back, see ``collect``.
            term: the leader's.
        """

    async def request_cancel(self, batch_id: UUID, *, actor: str) -> tuple[BatchRecord, bool] | None:
        """Cancel a batch: it will end ``cancelled``, whatever comes. The provider is yet to be told.

        Returns:
            The batch, and whether this call cancelled it; None if there is no such batch.
        """

    async def due(self, *, limit: int | None, without: Collection[str] = ()) -> list[BatchRecord]:
        """Read the unfinished batches whose time to be polled has come, the ones not polled for the longest first.

        Args:
            limit: how many at most; None is all.
            without: providers whose batches are left out.
        """

    async def get(self, batch_id: UUID) -> BatchRecord | None:
        """Read one batch."""

    async def list_batches(
        self, *, statuses: Collection[BatchStatus] = (), provider: str | None = None, limit: int, before: UUID | None
    ) -> list[BatchRecord]:
        """List batches, newest first; ``before`` is the last one of the page before."""

    async def requests(self, batch_id: UUID) -> list[WireRequest]:
        """Read what is to be submitted."""

    async def results(self, batch_id: UUID, *, after: int = -1, limit: int) -> list[BatchResult]:
        """Read items and their outcomes in the order of their requests, from the position after ``after`` on."""

    async def known(self, provider: str, provider_batch_ids: Collection[str]) -> set[str]:
        """Return which of these names at a provider belong to batches here."""


class LlmRequestStore(Protocol):
    """What jobs have asked a model, and wait for. Deleted with their jobs.

    A job that waits is queued again in the transaction that settles the last item it has asked for (``collect`` and
    ``end`` of the ``BatchStore``). Raises ``StoreUnavailable`` as a ``JobStore`` does.
    """

    async def ask(self, attempt: AttemptKey, key: str, provider: str, params: str) -> BatchResult | None:
        """Record a request, the first under its job and key only; return its outcome, or None if it has none yet.

        Args:
            attempt: who asks.
            key: names the request within the job.
            provider: whom.
            params: a JSON object text.

        Raises:
            StaleAttempt: the attempt runs no longer. Nothing was written.
        """

    async def waiting(self, *, limit: int) -> list[WaitingRequest]:
        """Read the requests of unfinished jobs that are in no batch yet, the oldest first."""

    async def providers(self) -> list[str]:
        """Return the providers that requests of unfinished jobs wait for, by name."""

    async def gather(
        self,
        batch_id: UUID,
        provider: str,
        endpoint: str | None,
        limits: BatchLimits,
        *,
        grace_seconds: float,
        actor: str,
        term: int | None = None,
    ) -> int:
        """Record a batch, ``submitting``, of the requests that have waited longest, and assign them to it.

        Requests of jobs that have ended are left out. Returns how many there are; no batch is recorded of none.

        Args:
            batch_id: the new batch.
            provider: whose requests.
            endpoint: of the provider.
            limits: of one batch.
            grace_seconds: so long nobody else looks after it.
            actor: who does it.
            term: the leader's.
        """


class BatchTelemetry(Protocol):
    """Measurements of batches."""

    def batches_polled(self, cycle: BatchPollingMetrics, seconds: float) -> None:
        """A cycle has ended, however."""

    def batch_ended(self, provider: str, status: BatchStatus) -> None:
        """A batch has ended, here."""

    def batch_items_updated(self, provider: str, status: ItemStatus, items: int) -> None:
        """Items got their outcome, here."""

    def llm_requests_put_back(self, provider: str, requests: int) -> None:
        """Requests of jobs wait for another batch, as they had no answer in one."""

    def breaker_changed(self, provider: str, state: BreakerState) -> None:
        """A provider's breaker is in this state from now on."""


class NoBatchTelemetry:
    """Measures nothing."""

    def batches_polled(self, cycle: BatchPollingMetrics, seconds: float) -> None:
        """Ignore."""

    def batch_ended(self, provider: str, status: BatchStatus) -> None:
        """Ignore."""

    def batch_items_updated(self, provider: str, status: ItemStatus, items: int) -> None:
        """Ignore."""

    def llm_requests_put_back(self, provider: str, requests: int) -> None:
        """Ignore."""

    def breaker_changed(self, provider: str, state: BreakerState) -> None:
        """Ignore."""
