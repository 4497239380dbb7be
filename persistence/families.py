"""What both stores ask of families: who may spawn children, and whose children a cancel takes along."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from callboard.actors.errors import StaleAttempt
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import Applied, AttemptKey, Refused


def require_running_attempt(
    attempt: AttemptKey, status: Status | None, token: int | None, *, may: str = "spawn no children"
) -> None:
    """Accept an attempt that still runs.

    Args:
        attempt: who spawns, or writes something else.
        status: of its job as found; None where there is no such job.
        token: of its job as found.
        may: what it may not do otherwise, for the message.

    Raises:
        StaleAttempt: the job is not running, or another attempt runs it.
    """
    if status is Status.RUNNING and token == attempt.token:
        return
    found = "does not exist" if status is None else f"is {status} with token {token}"
    raise StaleAttempt(
        f"job {attempt.job_id} {found}, so the attempt with token {attempt.token} can {may}: it was "
        f"cancelled or taken over; let it end",
        job_id=attempt.job_id,
        actual_status=status or "missing",
        wanted_status=Status.RUNNING,
    )


def require_living_parent(parent_id: UUID, status: Status) -> None:
    """Accept a parent that may have more children.

    Raises:
        StaleAttempt: it has ended: cancelled, or finished by another attempt, while this one was spawning.
    """
    if status.is_terminal:
        raise StaleAttempt(
            f"job {parent_id} is {status}, so it can have no new children: its attempt was cancelled or taken over",
            job_id=parent_id,
            actual_status=status,
            wanted_status=Status.RUNNING,
        )


def cancelled_jobs(answers: Iterable[Applied | Refused]) -> list[UUID]:
    """Return the jobs that are cancelled after a cancel: by it, or by an earlier one that may have been interrupted."""
    return [
        answer.job_id for answer in answers if isinstance(answer, Applied) or answer.actual_status is Status.CANCELLED
    ]
