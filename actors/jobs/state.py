"""The job state machine: statuses, edges and reasons, as data.

Two rules for this file:

1. Everything that says which status may follow which lives here and nowhere else. The diagram in
   docs/state-machine.md is made from ``EDGES``; a test holds the migrations' guards and CHECK constraints to it.
2. Nothing here reads a clock, draws a random number, waits or logs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a job stands."""

    __hash__ = str.__hash__  # equal to its text, as the enum's own is not; and each transition hashes some

    CREATED = "created"
    """Recorded, not queued: a spawn with ``hold=True``, until it is released."""
    PENDING = "pending"
    """Queued. It may still wait for its time (``run_at``) or for something (``waiting_on``)."""
    RUNNING = "running"
    """Claimed: one attempt, named by its token, owns the job."""
    COMPLETED = "completed"
    """Ended with a result. Final."""
    FAILED = "failed"
    """Ended without a result. Final."""
    CANCELLED = "cancelled"
    """Ended because somebody asked for it. Final."""

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended: no edge leaves this status."""
        return self in TERMINAL


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
UNFINISHED: Final = frozenset(Status) - TERMINAL


class Reason(StrEnum):
    """Why a transition happened: the ``reason`` of a history row."""

    __hash__ = str.__hash__  # as above

    SPAWNED = "spawned"
    RELEASED = "released"
    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    ERROR = "error"
    """The function raised, and the job may try again."""
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    """The function raised in its last attempt."""
    NOT_RETRYABLE = "not_retryable"
    """The function raised something that another try cannot mend."""
    TIMEOUT = "timeout"
    """The attempt took longer than its ``timeout_seconds``."""
    LEASE_EXPIRED = "lease_expired"
    """The worker died, or gave no sign of life for longer than its lease."""
    SHUTDOWN = "shutdown"
    """The worker stopped before the attempt ended; the attempt does not count."""
    SNOOZED = "snoozed"
    """The function asked to be called again later; the attempt does not count."""
    PARKED = "parked"
    """The function waits for something (``waiting_on``); the attempt does not count."""
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    """The job's deadline passed before it could end."""
    UNKNOWN_KIND = "unknown_kind"
    """No worker knows the job's kind."""


class WaitingOn(StrEnum):
    """What a pending job waits for, apart from its time."""

    CHILDREN = "children"
    LLM_BATCH = "llm_batch"
    """The outcome of what it has asked a model by ``ctx.llm_batch``."""


EDGES: Final[dict[tuple[Status | None, Status], frozenset[Reason]]] = {
    (None, Status.CREATED): frozenset({Reason.SPAWNED}),
    (None, Status.PENDING): frozenset({Reason.SPAWNED}),
    (Status.CREATED, Status.PENDING): frozenset({Reason.RELEASED}),
    (Status.CREATED, Status.CANCELLED): frozenset({Reason.CANCELLED}),
    (Status.CREATED, Status.FAILED): frozenset({Reason.DEADLINE, Reason.UNKNOWN_KIND}),
    (Status.PENDING, Status.RUNNING): frozenset({Reason.CLAIMED}),
    (Status.PENDING, Status.CANCELLED): frozenset({Reason.CANCELLED}),
    (Status.PENDING, Status.FAILED): frozenset({Reason.DEADLINE, Reason.UNKNOWN_KIND}),
    (Status.RUNNING, Status.COMPLETED): frozenset({Reason.SUCCEEDED}),
    (Status.RUNNING, Status.FAILED): frozenset(
        {
            Reason.ATTEMPTS_EXHAUSTED,
            Reason.NOT_RETRYABLE,
            Reason.TIMEOUT,
            Reason.LEASE_EXPIRED,
            Reason.DEADLINE,
            Reason.UNKNOWN_KIND,
        }
    ),
    (Status.RUNNING, Status.CANCELLED): frozenset({Reason.CANCELLED}),
    (Status.RUNNING, Status.PENDING): frozenset(
        {
            Reason.ERROR,
            Reason.TIMEOUT,
            Reason.LEASE_EXPIRED,
            Reason.SHUTDOWN,
            Reason.SNOOZED,
            Reason.PARKED,
            Reason.UNKNOWN_KIND,
        }
    ),
}
"""Every edge that exists, with the reasons it may have. ``None`` is the moment before the spawn. An ordinary spawn is
``created`` and ``pending`` in one insert, hence the edge from nothing to ``pending``."""

UNCOUNTED: Final = frozenset({Reason.SHUTDOWN, Reason.SNOOZED, Reason.PARKED, Reason.UNKNOWN_KIND})
"""Reasons of ``running → pending`` that give the attempt back: the job's fault it was not."""


def allowed(from_status: Status | None, to_status: Status, reason: Reason) -> bool:
    """Tell whether the edge exists and may have this reason."""
    return reason in EDGES.get((from_status, to_status), frozenset())


def sources(to_status: Status) -> frozenset[Status]:
    """Return the statuses from which ``to_status`` can be reached: the left side of a compare-and-set."""
    return frozenset(source for source, target in EDGES if target is to_status and source is not None)


def diagram() -> str:
    """Return the state machine as a Mermaid ``stateDiagram-v2``, for the docs."""
    lines = ["stateDiagram-v2"]
    for (source, target), reasons in EDGES.items():
        left = "[*]" if source is None else source.value
        lines.append(f"    {left} --> {target.value} : {', '.join(sorted(reasons))}")
    lines.extend(f"    {status.value} --> [*]" for status in Status if status in TERMINAL)
    return "\n".join(lines)
