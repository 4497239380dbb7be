"""The values that cross the boundaries between batches, stores and providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from .state import BatchStatus, ItemStatus


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request of a batch.

    Attributes:
        custom_id: names it within its batch; 1 to 200 printable characters. The provider sees another name.
        params: the request's body, as the provider's API takes it: ``model``, ``messages``, ...
    """

    custom_id: str
    params: Mapping[str, Any]


class NewItem(NamedTuple):
    """A request to record, already validated."""

    position: int
    """From 0, in the order of the caller's list."""
    custom_id: str
    params: str
    """A JSON object text."""


class NewBatch(NamedTuple):
    """A batch to record, before anything is sent."""

    id: UUID
    provider: str
    endpoint: str | None
    items: tuple[NewItem, ...]


class WireRequest(NamedTuple):
    """A request as it goes to the provider."""

    wire_id: str
    """Its name there, see ``naming.py``."""
    params: str
    """A JSON object text."""


class Outcome(NamedTuple):
    """What became of one request."""

    position: int
    status: ItemStatus
    result: str | None = None
    """A JSON text: what the provider returned for it."""
    error: str | None = None
    """A JSON text."""
    again: bool = False
    """Whether the request is worth another try, where a job has asked it."""


class Stray(NamedTuple):
    """A result that belongs to no request of its batch."""

    wire_id: str
    content: str
    """A JSON text."""


class Collected(NamedTuple):
    """What writing some results led to."""

    by_status: Mapping[ItemStatus, int]
    """How many items had no outcome before, by the one that they have now."""
    left: int
    """How many have none yet."""
    ended: BatchStatus | None
    """The status in which the batch ended by this; None if it did not end."""
    put_back: int = 0
    """How many requests of jobs wait for another batch now, instead of their outcome in this one."""

    @property
    def updated(self) -> int:
        """How many items had no outcome before."""
        return sum(self.by_status.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """Everything that is stored about a batch, without its items."""

    id: UUID
    provider: str
    endpoint: str | None
    status: BatchStatus
    provider_batch_id: str | None
    """Its name at the provider; None until it is confirmed."""
    total_items: int
    collected_items: int
    """How many of them have an outcome."""
    stray_items: int
    """Results that belong to no request of the batch; they are kept."""
    created_at: datetime
    created_by: str
    submitted_at: datetime | None
    submissions: int
    """How often somebody set out to submit it."""
    next_poll_at: datetime
    """Not polled before."""
    polled_at: datetime | None
    provider_status: str | None
    """What the provider said last, in its own words."""
    provider_counts: Mapping[str, int] = field(default_factory=dict)
    expires_at: datetime | None
    """When the provider gives up what it has not run by then."""
    provider_ended_at: datetime | None
    """When it was first seen to have ended there. Its results may not be collected yet."""
    cancel_requested_at: datetime | None
    cancel_sent_at: datetime | None
    failures: int
    """Failed polls since the last good one."""
    short_reads: int
    """Complete reads of results that lacked some."""
    last_error: str | None
    finished_at: datetime | None
    read_at: datetime
    """When this was read, on the database's clock."""

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody cancelled it."""
        return self.cancel_requested_at is not None

    @property
    def age_seconds(self) -> float:
        """How old it was when read."""
        return (self.read_at - self.created_at).total_seconds()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One request of a batch and what became of it.

    Attributes:
        custom_id: as submitted.
        status: ``succeeded``, ``errored``, ``canceled``, ``expired``, or ``pending``.
        result: what the provider returned, as plain JSON data: Anthropic's message, OpenAI's response body.
        error: what went wrong, as plain JSON data.
    """

    custom_id: str
    status: ItemStatus
    result: Any = None
    error: Any = None


class WaitingRequest(NamedTuple):
    """What a job has asked and is in no batch yet."""

    job_id: UUID
    key: str
    provider: str
    requested_at: datetime
    resubmissions: int
    """How often it was put back, because it had no answer in a batch."""


def lost_reply(key: str, batch_id: UUID) -> BatchResult:
    """Return the outcome of a request whose batch somebody has deleted: nobody will ever know."""
    error = {"type": "batch_deleted", "message": f"batch {batch_id}, which the request was in, is no longer there"}
    return BatchResult(key, ItemStatus.ERRORED, None, error)


class BatchNote(NamedTuple):
    """What a poll found out that ends nothing."""

    next_poll_seconds: float = 0.0
    """From now on."""
    provider_status: str | None = None
    """None leaves what was known."""
    provider_counts: Mapping[str, int] | None = None
    expires_at: datetime | None = None
    ended: bool = False
    """The provider has ended it."""
    cancel_sent: bool = False
    failures: int = 0
    short_reads: int = 0
    last_error: str | None = None
