"""Submitting a batch so that it is paid for once, whatever dies when.

The intent is in the database before anything is sent. If the answer gets lost, with the network or with the process,
the provider is asked what it has before anybody submits again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from .naming import reference
from .ports import BatchStore
from .provider import BatchProvider, FailureKind, ProviderBatch, ProviderFailure
from .state import BatchStatus, ItemStatus
from .types import BatchNote, BatchRecord

_log = logging.getLogger(__name__)

REQUEST_LIMITS: Final = 3
"""A submission takes at most so many times the timeout of one request: an upload, a creation, and some slack."""
GRACE_LIMITS: Final = 5
"""After so many of them nothing of a submission is under way any more, and somebody else looks after it."""
UPLOAD_BYTES_PER_SECOND: Final = 250_000
"""A submission may take longer by what its bytes take at this rate. One that carries nothing is given up sooner."""
CLOCK_SKEW: Final = timedelta(minutes=10)
"""So much a provider's clock may differ from the database's."""

Fence: TypeAlias = Callable[[], int | None]
"""Returns the leader's term, for its writes; None outside of the leader. Raises where it may act no longer."""


def no_fence() -> int | None:
    """Return no term: for what any process may do."""
    return None


@dataclass(frozen=True, slots=True)
class Submission:
    """How batches are submitted.

    Attributes:
        store: where they are.
        request_timeout_seconds: of one request to a provider.
    """

    store: BatchStore
    request_timeout_seconds: float

    @property
    def limit_seconds(self) -> float:
        """How long a submission may take, apart from the time that many bytes take."""
        return REQUEST_LIMITS * self.request_timeout_seconds

    @property
    def grace_seconds(self) -> float:
        """How long others keep off, unless a large submission says more."""
        return GRACE_LIMITS * self.request_timeout_seconds

    async def send(
        self, provider: BatchProvider, batch: BatchRecord, fence: Fence = no_fence
    ) -> ProviderFailure | None:
        """Submit a batch that nobody else submits now, and record what came of it.

        Returns:
            What went wrong: the batch is then ``failed`` (it is refused), ``unknown`` (the provider may have it), or
            ``submitting`` still (it has not).
        """
        requests = await self.store.requests(batch.id)
        upload_seconds = sum(len(request.params) for request in requests) / UPLOAD_BYTES_PER_SECOND
        limit_seconds = self.limit_seconds + upload_seconds
        if upload_seconds > self.request_timeout_seconds:  # others would take it for lost
            longer = BatchNote(next_poll_seconds=self.grace_seconds + upload_seconds, failures=batch.failures)
            await self.store.note(batch.id, longer, term=fence())
        try:
            try:
                async with asyncio.timeout(limit_seconds):
                    answer = await provider.submit(reference(batch.id), requests, batch.endpoint)
            except TimeoutError:
                raise ProviderFailure(
                    f"no answer within {limit_seconds:g} s", kind=FailureKind.PASSING, in_doubt=True
                ) from None
        except ProviderFailure as failure:
            await self._failed(batch, failure, fence)
            return failure
        await self.confirm(provider, batch, answer, fence)
        return None

    async def _failed(self, batch: BatchRecord, failure: ProviderFailure, fence: Fence) -> None:
        message = str(failure)
        _log.warning("batch %s: %s did not confirm it: %s", batch.id, batch.provider, message)
        if failure.kind is FailureKind.REFUSED and not failure.in_doubt:
            await self.store.end(batch.id, BatchStatus.FAILED, leftover=ItemStatus.ERRORED, error=message, term=fence())
            return
        pause = max(failure.retry_after_seconds or 0.0, self.grace_seconds if failure.in_doubt else 0.0)
        note = BatchNote(next_poll_seconds=pause, failures=batch.failures + 1, last_error=message)
        status = BatchStatus.UNKNOWN if failure.in_doubt else BatchStatus.SUBMITTING
        await self.store.note(batch.id, note, status=status, term=fence())

    async def confirm(
        self, provider: BatchProvider, batch: BatchRecord, answer: ProviderBatch, fence: Fence = no_fence
    ) -> None:
        """Record that the provider has a batch. Where another of its submissions was first, this one is cancelled."""
        confirmed = await self.store.confirm(batch.id, answer, term=fence())
        if confirmed is None or confirmed.provider_batch_id == answer.id:
            return
        _log.error(
            "batch %s was submitted twice, as %s and as %s: the second is cancelled now",
            batch.id,
            confirmed.provider_batch_id,
            answer.id,
        )
        await provider.cancel(answer.id)

    async def reconcile(self, provider: BatchProvider, batch: BatchRecord, fence: Fence) -> BatchStatus:
        """Find out what became of a submission of which nobody heard; submit it (again) if the provider has it not.

        Returns:
            The batch's status afterwards.

        Raises:
            ProviderFailure: the provider could not be asked.
        """
        candidates = await provider.find(reference(batch.id), batch.total_items, batch.created_at - CLOCK_SKEW)
        known = await self.store.known(batch.provider, [candidate.batch.id for candidate in candidates])
        open_ = [candidate for candidate in candidates if candidate.batch.id not in known]
        certain = [candidate.batch for candidate in open_ if candidate.certain]
        if certain:
            first, *others = certain
            _log.warning("batch %s is found at %s, as %s", batch.id, batch.provider, first.id)
            await self.confirm(provider, batch, first, fence)
            for other in others:
                await self.confirm(provider, batch, other, fence)
            return BatchStatus.RUNNING
        if open_:
            names = ", ".join(candidate.batch.id for candidate in open_)
            note = BatchNote(last_error=f"the provider may have it as {names}; that shows when those end")
            await self.store.note(batch.id, note, status=BatchStatus.UNKNOWN, term=fence())
            return BatchStatus.UNKNOWN
        if batch.cancel_requested:
            await self.store.end(
                batch.id, BatchStatus.CANCELLED, leftover=ItemStatus.CANCELED, error=None, term=fence()
            )
            return BatchStatus.CANCELLED
        return await self._again(provider, batch, fence)

    async def _again(self, provider: BatchProvider, batch: BatchRecord, fence: Fence) -> BatchStatus:
        taken = await self.store.take_submission(
            batch.id, batch.submissions, grace_seconds=self.grace_seconds, term=fence()
        )
        if not taken:
            return batch.status
        _log.warning("batch %s: %s does not have it, it is submitted again", batch.id, batch.provider)
        failure = await self.send(provider, batch, fence)
        if failure is None:
            return BatchStatus.RUNNING
        if failure.kind is FailureKind.REFUSED and not failure.in_doubt:
            return BatchStatus.FAILED
        raise failure
