"""What operators have set on queues and limits, in memory; and which jobs the limits let start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from callboard.actors.clock import Clock
from callboard.actors.errors import DuplicateJob
from callboard.actors.jobs.controls import Controls
from callboard.actors.jobs.limits import Candidate, Limit, Limits, LimitScope, admit, permit, refill
from callboard.actors.jobs.quotas import QuotaCheck, require_room
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import JobRecord, NewJob, OnConflict, QueueControl
from callboard.actors.jobs.uniqueness import holds_key
from callboard.actors.jobs.usage import QuotaUsage, usages


class MemoryControls:
    """Implements ``ControlStore``.

    Args:
        clock: the "database's" clock.
        announce: tells the nodes that something has changed.
    """

    def __init__(self, clock: Clock, announce: Callable[[], None]) -> None:
        self._clock = clock
        self._announce = announce
        self._queues: dict[str, QueueControl] = {}
        self._limits: dict[tuple[LimitScope, str], Limit] = {}
        self._buckets: dict[str, tuple[float, datetime]] = {}

    def invalidate(self) -> None:
        """Do nothing: what is read here is what holds."""

    async def read(self) -> Controls:
        """Return what holds now."""
        return self.now()

    def now(self) -> Controls:
        """Return what holds now."""
        return Controls(self._queues.values(), Limits(self._limits.values()))

    async def set_limit(self, limit: Limit, *, actor: str) -> None:  # noqa: ARG002 - nobody can ask memory who
        """Set a limit in the place of the one that its scope and name had."""
        self._limits[limit.scope, limit.name] = limit
        self._announce()

    async def clear_limit(self, scope: LimitScope, name: str) -> bool:
        """Remove a limit; False if there was none."""
        self._buckets.pop(permit(scope, name), None)
        cleared = self._limits.pop((scope, name), None) is not None
        self._announce()
        return cleared

    async def set_queue(
        self, name: str, *, paused: bool | None = None, draining: bool | None = None, actor: str
    ) -> None:
        """Pause, drain or resume a queue."""
        known = self._queues.get(name, QueueControl(name))
        self._queues[name] = QueueControl(
            name,
            known.paused if paused is None else paused,
            known.draining if draining is None else draining,
            self._clock.now(),
            actor,
        )
        self._announce()

    def admitted(
        self, ready: Sequence[JobRecord], running: Iterable[JobRecord], at_most: dict[str, int]
    ) -> list[JobRecord]:
        """Return those of the ready jobs, in their order, that the limits let start; takes their tokens."""
        limits, now = Limits(self._limits.values()), self._clock.now()
        held = Counter(name for job in running for name in _permits(job))
        tokens = {name: self._refilled(name, limits, now) for name in self._buckets}
        candidates = [
            Candidate(job.id, job.queue, job.kind, job.owner, job.concurrency_key, job.concurrency_limit)
            for job in ready
        ]
        admission = admit(candidates, limits, held, tokens, at_most)
        for name, spent in admission.spent.items():
            self._buckets[name] = (self._refilled(name, limits, now) - spent, now)
        return [job for job in ready if job.id in admission.permits]

    def _refilled(self, name: str, limits: Limits, now: datetime) -> float:
        scope, _, rest = name.partition(":")
        limit = limits.of(LimitScope(scope), rest)
        if limit is None or limit.rate is None:
            return 0.0
        level, at = self._buckets.get(name, (float(limit.rate), now))
        return refill(level, (now - at).total_seconds(), limit.rate, limit.rate_period_seconds)

    def usages(self, jobs: Iterable[JobRecord]) -> tuple[QuotaUsage, ...]:
        """Return how much of the limits is used."""
        running: Counter[tuple[LimitScope, str]] = Counter()
        queued: Counter[tuple[LimitScope, str]] = Counter()
        own_limits: dict[str, int] = {}
        for job in jobs:
            if job.status is Status.RUNNING:
                running.update(_names(job))
                if job.concurrency_key is not None and job.concurrency_limit is not None:
                    own = own_limits.get(job.concurrency_key, 0)
                    own_limits[job.concurrency_key] = max(own, job.concurrency_limit)
            if job.status is Status.PENDING and job.waiting_on is None:
                queued[LimitScope.QUEUE, job.queue] += 1
            if job.status in {Status.CREATED, Status.PENDING} and job.owner is not None:
                queued[LimitScope.OWNER, job.owner] += 1
        return usages(Limits(self._limits.values()), running, own_limits, queued)

    def counts(self, job: JobRecord) -> bool:
        """Tell whether a running job may keep others from starting."""
        return job.concurrency_key is not None or bool(self._limits)


def _permits(job: JobRecord) -> list[str]:
    return [permit(scope, name) for scope, name in _names(job)]


def _names(job: JobRecord) -> list[tuple[LimitScope, str]]:
    names = (
        (LimitScope.QUEUE, job.queue),
        (LimitScope.KIND, job.kind),
        (LimitScope.OWNER, job.owner),
        (LimitScope.KEY, job.concurrency_key),
    )
    return [(scope, name) for scope, name in names if name is not None]


def require_rooms(checks: Iterable[QuotaCheck], jobs: Iterable[JobRecord]) -> None:
    """Accept a spawn for which every bound has room.

    Raises:
        QueueFull: one has none.
    """
    waiting = [job for job in jobs if job.status in {Status.CREATED, Status.PENDING}]
    for check in checks:
        if check.scope is LimitScope.OWNER:
            queued = sum(job.owner == check.name for job in waiting)
        else:
            queued = sum(
                job.queue == check.name and job.status is Status.PENDING and job.waiting_on is None for job in waiting
            )
        require_room(check, min(queued, check.max_queued))


def holder(job: NewJob, jobs: Iterable[JobRecord], now: datetime) -> JobRecord | None:
    """Return the newest job that holds the key of a new one whose key the unique index does not decide about."""
    found = [
        other
        for other in jobs
        if (other.kind, other.unique_key) == (job.kind, job.unique_key)
        and other.unique_statuses is not None
        and holds_key(other.status, other.created_at, now, job.unique_statuses or (), job.unique_seconds)
    ]
    return max(found, key=lambda other: (other.created_at, other.id), default=None)


def require_no_duplicates(jobs: Sequence[NewJob], stored: Mapping[UUID, JobRecord], now: datetime) -> None:
    """Accept new jobs none of which asks to be refused.

    Raises:
        DuplicateJob: another job, here or among these, holds the key of one that does.
    """
    seen: dict[tuple[str, str], NewJob] = {}
    for job in jobs:
        if job.unique_statuses is None or job.unique_key is None or job.id in stored:
            continue
        key = (job.kind, job.unique_key)
        if job.on_conflict is OnConflict.RAISE:
            found = holder(job, stored.values(), now)
            if found is not None:
                raise DuplicateJob(found.id, job.kind, job.unique_key, found.status)
            if key in seen and seen[key].status in job.unique_statuses:
                raise DuplicateJob(seen[key].id, job.kind, job.unique_key, seen[key].status)
        seen.setdefault(key, job)
