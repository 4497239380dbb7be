"""What becomes of a job when something happens to it: ``decide(job, event, policy, now)``.

A pure function: the clock's reading, the drawn delay of a retry and the settings are arguments. Job actors and the
rescue sweep call it and act on the ``Transition`` that it returns; an event that the job's status does not allow
raises ``InvalidTransition`` and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, assert_never
from uuid import UUID

from callboard.actors.errors import InvalidTransition

from .failure import plain_error
from .state import UNCOUNTED, Reason, Status, WaitingOn, allowed


class Subject(Protocol):
    """What ``decide`` needs to know of a job."""

    @property
    def id(self) -> UUID:
        """The job's id."""

    @property
    def status(self) -> Status:
        """Its status now."""

    @property
    def attempt(self) -> int:
        """Counted attempts, the running one included."""

    @property
    def max_attempts(self) -> int:
        """How many attempts it may have."""

    @property
    def token(self) -> int:
        """The attempt token: one more for each claim."""

    @property
    def deadline(self) -> datetime | None:
        """When it must have ended, or None."""


@dataclass(frozen=True, slots=True)
class Release:
    """A held job may be queued."""


class Succeed(NamedTuple):
    """The function returned."""

    result: str | None
    """The result as JSON text, None where the function returned nothing worth keeping."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The function raised."""

    error: dict[str, Any]
    """``{"type", "message", "traceback"}``."""
    retry_delay_seconds: float
    """Drawn by the caller from the retry policy; used only if there is another attempt."""
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class TimeOut:
    """The attempt took too long and was stopped."""

    error: dict[str, Any]
    retry_delay_seconds: float


@dataclass(frozen=True, slots=True)
class LeaseExpire:
    """The worker gave no sign of life for longer than its lease."""

    retry_delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SoftStop:
    """The worker stops and puts the job back."""


@dataclass(frozen=True, slots=True)
class Snooze:
    """The function asks to be called again later."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Park:
    """The function waits for something."""

    waiting_on: WaitingOn


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody asks that the job end."""


@dataclass(frozen=True, slots=True)
class DeadlinePass:
    """The deadline passed while the job waited."""


@dataclass(frozen=True, slots=True)
class UnknownKind:
    """This worker does not know the job's kind; another one may (a rolling deploy)."""

    first_seen_seconds_ago: float
    """Since a worker first put it back for this reason; 0 at the first time."""


Event: TypeAlias = (
    Release | Succeed | Fail | TimeOut | LeaseExpire | SoftStop | Snooze | Park | Cancel | DeadlinePass | UnknownKind
)

_OF_AN_ATTEMPT: Final = (Succeed, Fail, TimeOut, LeaseExpire, SoftStop, Snooze, Park)
"""Events that only a running job can have: a waiting one must not fail by the deadline of somebody's late report."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on."""

    unknown_kind_grace_seconds: float = 3600.0
    """How long a job of an unknown kind is put back before it fails (default: one hour)."""
    unknown_kind_delay_seconds: float = 15.0
    """How long it rests each time (default: 15 s)."""


class Transition(NamedTuple):
    """One change of one job, ready to be written: a compare-and-set on ``(id, from_status, token)``."""

    job_id: UUID
    from_status: Status
    to_status: Status
    token: int
    reason: Reason
    counted: bool = True
    """False gives the attempt back: the stored ``attempt`` goes down by one."""
    delay_seconds: float = 0.0
    """For ``pending``: how far in the future, on the database's clock, the job becomes runnable."""
    result: str | None = None
    error: dict[str, Any] | None = None
    waiting_on: WaitingOn | None = None
    has_parent: bool = True
    """False if the job has no parent for certain: nobody then needs to look whether one waits for it."""


def decide(job: Subject, event: Event, policy: Policy, now: datetime) -> Transition:
    """Decide the transition that ``event`` causes in ``job``.

    Args:
        job: the job as last known.
        event: what happened.
        policy: the settings.
        now: the current time, timezone-aware.

    Returns:
        The transition to write. Its ``(from_status, to_status, reason)`` is always an edge of ``state.EDGES``.

    Raises:
        InvalidTransition: the job's status has no edge for this event.
    """
    if type(event) is Succeed and job.status is Status.RUNNING:  # nearly every call, so ahead of the table
        return succeed(job.id, job.token, event.result, has_parent=True)
    to_status, reason, details = _outcome(job, event, policy, now)
    late = job.status is not Status.RUNNING and isinstance(event, _OF_AN_ATTEMPT)
    if late or not allowed(job.status, to_status, reason):
        raise InvalidTransition(
            f"job {job.id} is {job.status}: {type(event).__name__} would make it {to_status} ({reason}), "
            f"and the state machine has no such edge for this event",
            job_id=job.id,
            actual_status=job.status,
            wanted_status=to_status,
        )
    counted = not (to_status is Status.PENDING and reason in UNCOUNTED)
    return Transition(job.id, job.status, to_status, job.token, reason, counted, **details)


# An enumeration's members are looked up slowly before Python 3.12, and what follows happens once for each job.
_RUNNING, _COMPLETED, _SUCCEEDED = Status.RUNNING, Status.COMPLETED, Reason.SUCCEEDED


def succeed(job_id: UUID, token: int, result: str | None, has_parent: bool) -> Transition:
    """Decide as ``decide`` does, of a running job whose function returned ``result``: there is nothing to weigh."""
    return Transition(
        job_id,
        _RUNNING,
        _COMPLETED,
        token,
        _SUCCEEDED,
        True,
        0.0,
        result,
        None,
        None,
        has_parent,
    )


_Outcome: TypeAlias = tuple[Status, Reason, dict[str, Any]]


def _outcome(job: Subject, event: Event, policy: Policy, now: datetime) -> _Outcome:  # noqa: C901 - a flat table
    match event:
        case Succeed(result):
            return Status.COMPLETED, Reason.SUCCEEDED, {"result": result}
        case Fail(error, delay, retryable):
            return _failure(job, Reason.ERROR, error, delay, now, retryable=retryable)
        case TimeOut(error, delay):
            return _failure(job, Reason.TIMEOUT, error, delay, now)
        case LeaseExpire(delay):
            error = plain_error("LeaseExpired", f"the worker of attempt {job.attempt} died or stopped answering")
            return _failure(job, Reason.LEASE_EXPIRED, error, delay, now)
        case SoftStop():
            return Status.PENDING, Reason.SHUTDOWN, {}
        case Snooze(delay):
            return _later(job, Reason.SNOOZED, delay, now)
        case Park(waiting_on):
            return Status.PENDING, Reason.PARKED, {"waiting_on": waiting_on}
        case Cancel():
            return Status.CANCELLED, Reason.CANCELLED, {}
        case Release():
            return Status.PENDING, Reason.RELEASED, {}
        case DeadlinePass():
            return Status.FAILED, Reason.DEADLINE, {"error": _deadline_error(job)}
        case UnknownKind(age):
            return _unknown_kind(age, policy)
        case _:
            assert_never(event)


def _failure(
    job: Subject,
    reason: Reason,
    error: dict[str, Any],
    delay: float,
    now: datetime,
    *,
    retryable: bool = True,
) -> _Outcome:
    """Retry while attempts and the deadline allow it, otherwise end as failed."""
    if not retryable:
        return Status.FAILED, Reason.NOT_RETRYABLE, {"error": error}
    if reason is Reason.TIMEOUT and job.deadline is not None and now >= job.deadline:
        return Status.FAILED, Reason.DEADLINE, {"error": error}
    if job.attempt >= job.max_attempts:
        final = Reason.ATTEMPTS_EXHAUSTED if reason is Reason.ERROR else reason
        return Status.FAILED, final, {"error": error}
    if job.deadline is not None and now + timedelta(seconds=delay) >= job.deadline:
        return Status.FAILED, Reason.DEADLINE, {"error": error}
    return Status.PENDING, reason, {"error": error, "delay_seconds": delay}


def _later(job: Subject, reason: Reason, delay: float, now: datetime) -> _Outcome:
    if job.deadline is not None and now + timedelta(seconds=delay) >= job.deadline:
        return Status.FAILED, Reason.DEADLINE, {"error": _deadline_error(job)}
    return Status.PENDING, reason, {"delay_seconds": delay}


def _unknown_kind(age_seconds: float, policy: Policy) -> _Outcome:
    if age_seconds < policy.unknown_kind_grace_seconds:
        return Status.PENDING, Reason.UNKNOWN_KIND, {"delay_seconds": policy.unknown_kind_delay_seconds}
    return Status.FAILED, Reason.UNKNOWN_KIND, {"error": _unknown_kind_error(age_seconds)}


def _unknown_kind_error(age_seconds: float) -> dict[str, Any]:
    message = f"no worker knew this kind for {age_seconds:.0f} s; import the module that defines it in the worker"
    return plain_error("UnknownJobKind", message)


def _deadline_error(job: Subject) -> dict[str, Any]:
    return plain_error("DeadlineExceeded", f"the deadline {job.deadline} passed")
