"""The statuses of batches and their items, as data.

Nothing here reads a clock, draws a random number, waits or logs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class BatchStatus(StrEnum):
    """Where a batch stands."""

    SUBMITTING = "submitting"
    """The intent is recorded; the provider has not confirmed the batch yet."""
    UNKNOWN = "unknown"
    """The provider may have it: somebody submitted it and lost the answer. Nobody submits it again before that is
    found out."""
    RUNNING = "running"
    """The provider has it."""
    CANCELLING = "cancelling"
    """Somebody cancelled it, and the provider has not ended it yet. What it finished until then is collected."""
    COMPLETED = "completed"
    """Every item has its outcome. Final."""
    FAILED = "failed"
    """The provider refused the batch as a whole, or knows it no longer. Final."""
    EXPIRED = "expired"
    """It did not end in time; what it had finished is collected. Final."""
    CANCELLED = "cancelled"
    """Somebody cancelled it; what it had finished is collected. Final."""

    @property
    def is_terminal(self) -> bool:
        """Whether the batch has ended: no edge leaves this status."""
        return self in TERMINAL


TERMINAL: Final = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})
UNFINISHED: Final = frozenset(BatchStatus) - TERMINAL
UNCONFIRMED: Final = frozenset({BatchStatus.SUBMITTING, BatchStatus.UNKNOWN})
"""Without a name at the provider."""

EDGES: Final[dict[BatchStatus, frozenset[BatchStatus]]] = {
    BatchStatus.SUBMITTING: frozenset(
        {
            BatchStatus.UNKNOWN,
            BatchStatus.RUNNING,
            BatchStatus.CANCELLING,
            BatchStatus.FAILED,
            BatchStatus.EXPIRED,
            BatchStatus.CANCELLED,
        }
    ),
    BatchStatus.UNKNOWN: frozenset(
        {
            BatchStatus.SUBMITTING,
            BatchStatus.RUNNING,
            BatchStatus.CANCELLING,
            BatchStatus.FAILED,
            BatchStatus.EXPIRED,
            BatchStatus.CANCELLED,
        }
    ),
    BatchStatus.RUNNING: frozenset({BatchStatus.CANCELLING, *TERMINAL}),
    BatchStatus.CANCELLING: frozenset({BatchStatus.CANCELLED}),
    **dict.fromkeys(TERMINAL, frozenset()),
}
"""Which status may follow which; the database's guard is made of it."""


class ItemStatus(StrEnum):
    """Where one request of a batch stands."""

    PENDING = "pending"
    """No outcome yet."""
    SUCCEEDED = "succeeded"
    """There is a result."""
    ERRORED = "errored"
    """There is an error: of this request, or of the batch."""
    CANCELED = "canceled"
    """Not run, because the batch was cancelled. Spelled as the providers spell it."""
    EXPIRED = "expired"
    """Not run in time."""


OUTCOMES: Final = frozenset(ItemStatus) - {ItemStatus.PENDING}


def final_status(status: BatchStatus, ended_as: BatchStatus, *, cancel_requested: bool) -> BatchStatus:
    """Return how a batch ends: whatever the provider calls it, what was cancelled stays cancelled.

    Args:
        status: where it stands.
        ended_as: the terminal status that its end means otherwise.
        cancel_requested: whether somebody cancelled it here.
    """
    if cancel_requested or status is BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    return ended_as


def submitted_status(*, cancel_requested: bool) -> BatchStatus:
    """Return what a batch is once the provider is known to have it."""
    return BatchStatus.CANCELLING if cancel_requested else BatchStatus.RUNNING
