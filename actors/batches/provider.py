"""What a provider of batches is asked, what it answers, and how it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from callboard.actors.errors import CallboardError

from .state import BatchStatus, ItemStatus
from .types import WireRequest


class Phase(StrEnum):
    """What a provider's status means."""

    RUNNING = "running"
    """It works on it; ``canceling`` belongs here: it has not ended."""
    ENDED = "ended"
    """Nothing more will happen; whatever results there are can be read."""
    UNRECOGNIZED = "unrecognized"
    """A word that this version does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBatch:
    """A batch as its provider describes it.

    Attributes:
        id: its name there.
        status: in the provider's words.
        phase: what that means.
        counts: of its requests, in the provider's words.
        expires_at: when it gives up.
        ended_as: the status that its end means; read only in phase ``ended``.
        expected_results: so many results it has at least; None: one for each request.
        leftover: what became of the requests for which an ended batch has no result.
        error: what was wrong with the batch as a whole.
        result_files: where its results are; what the provider needs for ``results``.
    """

    id: str
    status: str
    phase: Phase
    counts: Mapping[str, int] = field(default_factory=dict)
    expires_at: datetime | None = None
    ended_as: BatchStatus = BatchStatus.COMPLETED
    expected_results: int | None = None
    leftover: ItemStatus = ItemStatus.ERRORED
    error: str | None = None
    result_files: tuple[str, ...] = ()


class ProviderResult(NamedTuple):
    """One line of a provider's results."""

    wire_id: str
    status: ItemStatus | None
    """None: a word that this version does not know."""
    result: str | None
    """A JSON text."""
    error: str | None
    """A JSON text."""
    passing: bool = False
    """Whether another try may succeed: the trouble was the provider's own."""


class Candidate(NamedTuple):
    """A batch at the provider that may be one of which the answer got lost."""

    batch: ProviderBatch
    certain: bool
    """Whether it is that one; if not, it is too early to tell."""


class FailureKind(StrEnum):
    """What a failed call means for what comes next."""

    PASSING = "passing"
    """Another try may succeed: the network, the provider's trouble, too many requests."""
    CREDENTIALS = "credentials"
    """The key is missing, wrong, or may not do this: no other call will succeed either, until somebody helps."""
    NOT_FOUND = "not_found"
    """The provider does not know it; right after a submission, it does not know it yet."""
    REFUSED = "refused"
    """The request itself is wrong: it would be refused again."""


class ProviderFailure(CallboardError):
    """A call to a provider failed.

    Attributes:
        kind: what that means.
        retry_after_seconds: when the provider allows another call; None if it did not say.
        in_doubt: whether the provider may have done what it was asked to.
    """

    def __init__(
        self, message: str, *, kind: FailureKind, retry_after_seconds: float | None = None, in_doubt: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
        self.in_doubt = in_doubt


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch may hold.

    Attributes:
        max_requests: so many requests.
        max_bytes: so large its upload, in bytes.
    """

    max_requests: int
    max_bytes: int

    def at_most(self, max_bytes: int) -> BatchLimits:
        """Return these limits, with a size that is also within another one."""
        return BatchLimits(self.max_requests, min(self.max_bytes, max_bytes))


class BatchProvider(Protocol):
    """Somebody who runs batches. Implement this for another provider than those that come along.

    Every call is one try, of a bounded time: nothing in here waits for a better moment or tries again. Whatever goes
    wrong is a ``ProviderFailure``.
    """

    @property
    def limits(self) -> BatchLimits:
        """What one batch may hold."""

    @property
    def endpoints(self) -> Sequence[str]:
        """The endpoints that a batch may be for, the default first; empty where there is nothing to choose."""

    async def submit(self, reference: str, requests: Sequence[WireRequest], endpoint: str | None) -> ProviderBatch:
        """Create a batch. It costs money.

        Args:
            reference: what ``find`` recognizes it by.
            requests: within the limits.
            endpoint: one of ``endpoints``.
        """

    async def find(self, reference: str, total: int, since: datetime) -> Sequence[Candidate]:
        """Look for a batch that may have been created, though nobody heard of it.

        Args:
            reference: as it was submitted.
            total: how many requests it has.
            since: it was not submitted before.
        """

    async def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """Ask how a batch is."""

    def results(self, batch: ProviderBatch) -> AsyncIterator[ProviderResult]:
        """Stream the results of an ended batch, from the beginning. Close it when done."""

    async def cancel(self, provider_batch_id: str) -> None:
        """Ask the provider to end a batch; it ends some time later. One that has ended is left alone, silently."""

    async def close(self) -> None:
        """Close its connections."""
