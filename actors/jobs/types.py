"""The values that cross the boundary between job actors and stores.

Hot ones (made once a job) are ``NamedTuple``s: building one from a database row costs a third of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from .state import Reason, Status, WaitingOn
from .usage import QuotaUsage

JsonScalar: TypeAlias = str | int | float | bool | None


class OnConflict(StrEnum):
    """What a spawn does where another job holds its ``unique_key``."""

    RETURN = "return"
    """Nothing: the reference is to the other job."""
    RAISE = "raise"
    """Raise ``DuplicateJob``; nothing is written."""
    REPLACE = "replace"
    """Give the other job, if it has not started, the new arguments, options and time; it keeps its id."""
    RESCHEDULE = "reschedule"
    """Give the other job, if it has not started, the new time: a debounce."""


class NewJob(NamedTuple):
    """A job to insert, already validated."""

    id: UUID
    kind: str
    queue: str
    arguments: str
    """The arguments as a JSON object text."""
    status: Status = Status.PENDING
    """``pending``, or ``created`` for a held one."""
    priority: int = 0
    """Lower runs first (like ``nice``); -32768 to 32767, default 0."""
    delay_seconds: float = 0.0
    """Runnable this long after the insert, on the database's clock. Ignored where ``run_at`` is given."""
    run_at: datetime | None = None
    max_attempts: int = 1
    timeout_seconds: float | None = None
    deadline_seconds: float | None = None
    """The job must have ended this long after its insert, or it fails."""
    unique_key: str | None = None
    """At most one unfinished job of a kind has this key; a second spawn returns the first's id."""
    owner: str | None = None
    tags: tuple[str, ...] = ()
    metadata: str | None = None
    """A JSON object text."""
    parent_id: UUID | None = None
    child_key: str | None = None
    """With ``child_index``: names the child within its parent, so that a parent run again finds it."""
    child_index: int | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    """How many jobs with this ``concurrency_key`` may run at a time, over all nodes."""
    unique_statuses: tuple[Status, ...] | None = None
    """The statuses in which another job of the kind holds the ``unique_key``; None: the unfinished ones."""
    unique_seconds: float | None = None
    """Only jobs spawned so recently hold it; None: whenever. Needs ``unique_statuses``."""
    on_conflict: OnConflict = OnConflict.RETURN
    """What to do where another job holds it; anything but ``return`` needs ``unique_statuses``."""
    result_ttl_seconds: float | None = None
    """The result is kept for so long after the job's end."""
    callback_url: str | None = None
    """Told by an HTTP POST when the job has ended."""


class Spawned(NamedTuple):
    """What an insert did, one for each ``NewJob`` and in its order."""

    id: UUID
    """The job's id: the new one, or that of the existing job (same ``unique_key``, or same child)."""
    created: bool


class QueueDemand(NamedTuple):
    """How many jobs of a queue a node can take now."""

    queue: str
    limit: int


class ClaimedJob(NamedTuple):
    """A job that this node now runs: status ``running``, with a fresh token and a lease."""

    id: UUID
    kind: str
    queue: str
    attempt: int
    max_attempts: int
    token: int
    arguments: str
    timeout_seconds: float | None
    deadline: datetime | None
    owner: str | None
    parent_id: UUID | None
    wait_seconds: float
    """From runnable to claimed, on the database's clock."""

    @property
    def status(self) -> Status:
        """A claimed job is running."""
        return Status.RUNNING


class AttemptKey(NamedTuple):
    """Names one attempt: what every write of a worker carries."""

    job_id: UUID
    token: int


@dataclass(slots=True)  # not a named tuple, which is slower to make: there is one for each job
class Applied:
    """A transition that was committed."""

    job_id: UUID
    status: Status


class Refused(NamedTuple):
    """A transition that lost: the row stays as it was."""

    job_id: UUID
    cause: Literal["missing", "invalid", "stale"]
    """``missing``: no such job. ``invalid``: the job is not in ``from_status``. ``stale``: another token."""
    actual_status: Status | None
    actual_token: int | None


class Rescued(NamedTuple):
    """What a rescue sweep did with one job of a dead worker (or one past its deadline)."""

    job_id: UUID
    kind: str
    queue: str
    to_status: Status
    reason: Reason


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as stored, for reading."""

    id: UUID
    kind: str
    queue: str
    status: Status
    priority: int
    run_at: datetime
    attempt: int
    max_attempts: int
    token: int
    arguments: str
    result: str | None
    error: dict[str, Any] | None
    stop_reason: str | None
    """The reason of the last transition, for a job that has ended; None before."""
    waiting_on: WaitingOn | None
    progress: dict[str, Any] | None
    owner: str | None
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    unique_key: str | None
    parent_id: UUID | None
    child_key: str | None
    child_index: int | None
    node: str | None
    """Who runs it, or ran it last."""
    timeout_seconds: float | None
    deadline: datetime | None
    lease_expires_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    """When the latest attempt was claimed."""
    finished_at: datetime | None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    unique_statuses: tuple[Status, ...] | None = None
    result_ttl_seconds: float | None = None
    result_expired: bool = False
    """The result was not to be kept any longer; ``result`` is None then, deleted or not yet."""
    callback_url: str | None = None
    callback_sent_at: datetime | None = None
    """The latest attempt to tell it there, successful or not."""
    callback_status_code: int | None = None
    """What came back; None where nothing did."""
    callback_error: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One transition of one job."""

    sequence: int
    """Grows with time within a job."""
    job_id: UUID
    from_status: Status | None
    to_status: Status
    attempt: int
    reason: Reason
    actor: str
    """Who did it: ``node:<name>``, ``client:<name>``, later ``leader:<name>#<term>``."""
    at: datetime


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list. Every given field must match; an empty tuple matches all."""

    statuses: tuple[Status, ...] = ()
    kinds: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """The job must have all of them."""
    owner: str | None = None
    parent_id: UUID | None = None
    metadata: Mapping[str, JsonScalar] = field(default_factory=dict)
    """The metadata must have all of these at its top level, with these values: texts, numbers, true, false or null."""
    error_types: tuple[str, ...] = ()
    """Names of exceptions: the job must have ended, or be about to try again, by one of them."""
    waiting_on: WaitingOn | None = None
    """What the job must be parked for."""
    retried: bool | None = None
    """Whether somebody has spawned a copy of the job (``callboard job retry``, ``replay``); None: both."""


class ErrorCount(NamedTuple):
    """How many jobs have failed by one error: a line of the dead letter list."""

    kind: str
    queue: str
    error_type: str
    """Empty where the job failed without an exception."""
    jobs: int
    latest_at: datetime
    """When the last of them failed."""
    latest_id: UUID


class RequestsWaiting(NamedTuple):
    """What jobs have asked a model and is in no batch yet."""

    provider: str
    requests: int
    oldest_at: datetime


class StatusCount(NamedTuple):
    """How many jobs there are of one kind, queue and status."""

    kind: str
    queue: str
    status: Status
    jobs: int


class QueueDepth(NamedTuple):
    """The backlog of one queue."""

    queue: str
    runnable: int
    """Pending jobs whose time has come and that wait for nothing."""
    oldest_runnable_at: datetime | None


class QueueControl(NamedTuple):
    """What is set on one queue."""

    name: str
    paused: bool = False
    """Nobody claims its jobs; those that run go on."""
    draining: bool = False
    """It takes no new jobs; those that it has are worked off."""
    changed_at: datetime | None = None
    changed_by: str | None = None


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """Counts for ``status``, metrics and the demo, read in one transaction."""

    counts: tuple[StatusCount, ...] = ()
    depths: tuple[QueueDepth, ...] = ()
    nodes: tuple[Node, ...] = field(default=())
    controls: tuple[QueueControl, ...] = ()
    callbacks_pending: int = 0
    llm_requests: tuple[RequestsWaiting, ...] = ()
    quotas: tuple[QuotaUsage, ...] = ()


class Node(NamedTuple):
    """A process that works or worked."""

    name: str
    """``host:pid:8 random hex digits``: unique for each start."""
    started_at: datetime
    seen_at: datetime
    """Its last heartbeat."""
    running: int
    """Jobs it runs now."""
