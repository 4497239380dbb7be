"""How a job must end, told from its history: which statuses, how many attempts, for which reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callboard import HistoryRow, JobRecord, Reason, Status

_GIVEN_BACK = frozenset({Reason.PARKED, Reason.SHUTDOWN})
"""Ends of an attempt that cost nothing: it waited for its children, or its worker stopped in order."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a job must end."""

    status: Status
    attempts: int
    reasons: tuple[Reason, ...]
    """Of its transitions, oldest first, without those of attempts that were given back."""


def completed(*, failures: int = 0) -> Fate:
    """Return the fate of a job that completes after so many failed attempts."""
    reasons = (Reason.SPAWNED, *(Reason.CLAIMED, Reason.ERROR) * failures, Reason.CLAIMED, Reason.SUCCEEDED)
    return Fate(Status.COMPLETED, failures + 1, reasons)


def exhausted(attempts: int) -> Fate:
    """Return the fate of a job that fails at each of its attempts."""
    retries = (Reason.CLAIMED, Reason.ERROR) * (attempts - 1)
    return Fate(Status.FAILED, attempts, (Reason.SPAWNED, *retries, Reason.CLAIMED, Reason.ATTEMPTS_EXHAUSTED))


def timed_out(attempts: int) -> Fate:
    """Return the fate of a job whose every attempt takes too long."""
    return Fate(Status.FAILED, attempts, (Reason.SPAWNED, *(Reason.CLAIMED, Reason.TIMEOUT) * attempts))


COMPLETED = completed()
ABORTED = Fate(Status.FAILED, 1, (Reason.SPAWNED, Reason.CLAIMED, Reason.NOT_RETRYABLE))
CANCELLED = Fate(Status.CANCELLED, 1, (Reason.SPAWNED, Reason.CLAIMED, Reason.CANCELLED))


def difference(fate: Fate, record: JobRecord, history: Sequence[HistoryRow]) -> str | None:
    """Return in what a job's end differs from its fate, or None.

    Where a worker died under the job, its attempts depend on the moment of the death: then the status must be the
    fate's, and the count of attempts that of its history.
    """
    if record.status is not fate.status:
        return f"is {record.status}, expected {fate.status}"
    reasons = _counted(history)
    interrupted = Reason.LEASE_EXPIRED in reasons
    attempts = reasons.count(Reason.CLAIMED) if interrupted else fate.attempts
    if record.attempt != attempts or not (interrupted or reasons == fate.reasons):
        path = "" if interrupted else f" ({_path(fate.reasons)})"
        return f"took {record.attempt} attempts ({_path(reasons)}), expected {attempts}{path}"
    return None


def _path(reasons: Sequence[Reason]) -> str:
    return " > ".join(reasons)


def _counted(history: Sequence[HistoryRow]) -> tuple[Reason, ...]:
    reasons: list[Reason] = []
    for row in history:
        if row.reason in _GIVEN_BACK and reasons[-1:] == [Reason.CLAIMED]:
            reasons.pop()
        else:
            reasons.append(row.reason)
    return tuple(reasons)
