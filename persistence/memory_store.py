"""The job store in this process's memory, for users' unit tests and trials: the same contract, not durable."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from callboard.actors.clock import Clock
from callboard.actors.errors import ConfigurationError, InvalidTransition
from callboard.actors.jobs.decide import (
    Cancel,
    DeadlinePass,
    Event,
    LeaseExpire,
    Policy,
    Release,
    Transition,
    decide,
)
from callboard.actors.jobs.quotas import quota_checks, require_open_queues
from callboard.actors.jobs.retention import Pruned, Retention
from callboard.actors.jobs.state import Reason, Status, WaitingOn
from callboard.actors.jobs.turn import DEFAULT_AGING_SECONDS, turn
from callboard.actors.jobs.types import (
    Applied,
    AttemptKey,
    ClaimedJob,
    ErrorCount,
    HistoryRow,
    JobFilter,
    JobRecord,
    NewJob,
    Node,
    QueueDemand,
    QueueDepth,
    Refused,
    Rescued,
    Spawned,
    StatusCount,
    StoreSummary,
)
from callboard.actors.jobs.uniqueness import Resolution, resolve

from .families import cancelled_jobs, require_living_parent, require_running_attempt
from .literals import json_text
from .memory_batches import MemoryBatches
from .memory_callbacks import MemoryCallbacks
from .memory_controls import MemoryControls, holder, require_no_duplicates, require_rooms
from .memory_jobs import (
    check_json,
    claimed_job,
    count_errors,
    matches,
    needs_rescue,
    new_record,
    prunable,
    transitioned,
    visible,
)
from .memory_leader_lock import MemoryLeaderLock
from .memory_llm_requests import MemoryLlmRequests
from .memory_schedules import MemorySchedules
from .memory_steps import MemorySteps

_FORGET_NODES_AFTER = timedelta(days=1)


class MemoryStore:
    """Implements ``JobStore``. For one event loop; every method runs without a pause, hence as one transaction.

    Args:
        clock: the "database's" clock.
        aging_seconds: what a step of priority is worth.
    """

    def __init__(self, clock: Clock, aging_seconds: float = DEFAULT_AGING_SECONDS) -> None:
        self._clock = clock
        self._aging_seconds = aging_seconds
        self._jobs: dict[UUID, JobRecord] = {}
        self._history: dict[UUID, list[HistoryRow]] = {}
        self._pending: defaultdict[str, dict[UUID, None]] = defaultdict(dict)
        self._running: dict[UUID, float] = {}
        self._unique: dict[tuple[str, str], UUID] = {}
        self._children: defaultdict[UUID, dict[tuple[str, int], UUID]] = defaultdict(dict)
        self._nodes: dict[str, Node] = {}
        self._listeners: list[Callable[[str, str], None]] = []
        self._freed = False
        self.controls = MemoryControls(clock, lambda: self._hint("controls", ""))
        self.leader_lock = MemoryLeaderLock(clock)
        self.callbacks = MemoryCallbacks(clock, self._jobs.get, lambda: self._hint("callback", ""))
        self.steps = MemorySteps(self._jobs.get)
        self.schedules = MemorySchedules(
            clock, lambda jobs, actor: self._spawn_all(jobs, actor, None), self.leader_lock.require_term
        )
        self.batches = MemoryBatches(
            clock,
            self._batch_changed,
            self.leader_lock.require_term,
            self._put_requests_back,
        )
        self.llm_requests = MemoryLlmRequests(clock, self._jobs.get, self.batches, self.leader_lock.require_term)

    async def open(self) -> None:
        """Do nothing: memory is there."""

    async def close(self) -> None:
        """Do nothing; what is stored stays."""

    async def spawn(
        self,
        jobs: Sequence[NewJob],
        *,
        actor: str,
        connection: object | None = None,
        parent: AttemptKey | None = None,
    ) -> list[Spawned]:
        """Insert jobs."""
        if connection is not None:
            raise ConfigurationError("spawn(connection=…) needs PostgreSQL; this is the memory store: leave it out")
        return self._spawn_all(jobs, actor, parent)

    async def spawn_alike(self, chunks: Iterable[Sequence[NewJob]], chunk_count: int, *, actor: str) -> list[Spawned]:
        """Insert jobs, of which one chunk after the other is asked for."""
        del chunk_count
        return self._spawn_all(list(chain.from_iterable(chunks)), actor, None)

    def _spawn_all(self, jobs: Sequence[NewJob], actor: str, parent: AttemptKey | None) -> list[Spawned]:
        now, controls = self._clock.now(), self.controls.now()
        require_open_queues(jobs, controls)
        require_rooms(quota_checks(jobs, controls.limits), self._jobs.values())
        for job in jobs:
            if job.parent_id is not None and (known := self._jobs.get(job.parent_id)) is not None:
                require_living_parent(known.id, known.status)
        if parent is not None:
            found = self._jobs.get(parent.job_id)
            status, token = (None, None) if found is None else (found.status, found.token)
            require_running_attempt(parent, status, token)
        records = [new_record(job, now) for job in jobs]
        require_no_duplicates(jobs, self._jobs, now)
        answers = [self._spawn(job, record, actor, now) for job, record in zip(jobs, records, strict=True)]
        created = {answer.id for answer in answers if answer.created}
        self._announce_runnable(record for record in records if record.id in created)
        return answers

    def _spawn(self, job: NewJob, record: JobRecord, actor: str, now: datetime) -> Spawned:
        if job.unique_statuses is None or job.id in self._jobs:
            return self._insert(record, actor, now)
        other = holder(job, self._jobs.values(), now)
        if other is None:
            return self._insert(record, actor, now)
        match resolve(other.status, other.token, job.on_conflict):
            case Resolution.REPLACE:
                kept = ("id", "status", "attempt", "token", "created_at", "parent_id", "child_key", "child_index")
                self._put(replace(record, **{name: getattr(other, name) for name in kept}))
            case Resolution.RESCHEDULE:
                self._put(replace(other, run_at=record.run_at))
        self._announce_runnable([self._jobs[other.id]])
        return Spawned(other.id, created=False)

    def _insert(self, record: JobRecord, actor: str, now: datetime) -> Spawned:
        existing = self._existing(record)
        if existing is not None:
            return Spawned(existing, created=False)
        if record.parent_id is not None:
            self._children[record.parent_id][record.child_key or "", record.child_index or 0] = record.id
        self._put(record)
        self._record(record, None, 0, Reason.SPAWNED, actor, now)
        return Spawned(record.id, created=True)

    def _existing(self, record: JobRecord) -> UUID | None:
        if record.id in self._jobs:
            return record.id
        if record.parent_id is not None:
            place = (record.child_key or "", record.child_index or 0)
            child = self._children.get(record.parent_id, {}).get(place)
            if child is not None:
                return child
        if record.unique_key is None or record.unique_statuses is not None:
            return None
        return self._unique.get((record.kind, record.unique_key))

    def _put(self, record: JobRecord) -> None:
        """Store a record and keep the look-up tables in step."""
        known = self._jobs.get(record.id)
        if known is not None and known.queue != record.queue:
            self._pending[known.queue].pop(record.id, None)
        self._jobs[record.id] = record
        if record.status is Status.PENDING and record.waiting_on is None:
            self._pending[record.queue][record.id] = None
        else:
            self._pending[record.queue].pop(record.id, None)
        if record.status is not Status.RUNNING:
            self._running.pop(record.id, None)
        if record.unique_key is not None and record.unique_statuses is None:
            if not record.status.is_terminal:
                self._unique[record.kind, record.unique_key] = record.id
            elif self._unique.get((record.kind, record.unique_key)) == record.id:
                del self._unique[record.kind, record.unique_key]

    def _record(
        self, record: JobRecord, source: Status | None, attempt: int, reason: Reason, actor: str, now: datetime
    ) -> None:
        rows = self._history.setdefault(record.id, [])
        rows.append(HistoryRow(len(rows) + 1, record.id, source, record.status, attempt, reason, actor, now))

    async def claim(self, demands: Sequence[QueueDemand], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        """Take runnable jobs."""
        now, controls = self._clock.now(), self.controls.now()
        at_most = {
            demand.queue: demand.limit
            for demand in demands
            if demand.limit > 0 and not controls.is_paused(demand.queue)
        }
        ready = [
            job
            for queue in at_most
            for job in map(self._jobs.__getitem__, self._pending.get(queue, ()))
            if job.run_at <= now and (job.deadline is None or job.deadline > now)
        ]
        ready.sort(key=lambda job: (turn(job.run_at, job.priority, self._aging_seconds), job.id))
        running = map(self._jobs.__getitem__, self._running)
        admitted = self.controls.admitted(ready, running, at_most)
        return [self._claim(job, node, lease_seconds, now) for job in admitted]

    def _claim(self, job: JobRecord, node: str, lease_seconds: float, now: datetime) -> ClaimedJob:
        running = replace(
            job,
            status=Status.RUNNING,
            attempt=job.attempt + 1,
            token=job.token + 1,
            node=node,
            started_at=now,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
        )
        self._put(running)
        self._running[job.id] = lease_seconds
        self._record(running, job.status, running.attempt, Reason.CLAIMED, f"node:{node}", now)
        return claimed_job(running, now)

    async def adopt(self, known: Sequence[AttemptKey], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        """Give a node what it claimed without hearing of it."""
        now = self._clock.now()
        mine = [job for job in map(self._jobs.__getitem__, self._running) if job.node == node]
        orphans = [job for job in mine if AttemptKey(job.id, job.token) not in set(known)]
        self.renew_now([AttemptKey(job.id, job.token) for job in orphans], lease_seconds)
        return [claimed_job(job, job.started_at or now) for job in orphans]

    async def apply(self, transitions: Sequence[Transition], *, actor: str) -> list[Applied | Refused]:
        """Write transitions by compare-and-set."""
        now = self._clock.now()
        checked = [
            change._replace(error=json.loads(json_text(f"error of job {change.job_id}", change.error)))
            for change in transitions
        ]
        for change in checked:
            if change.result is not None:
                check_json("result", change.result)
        answers = [self._apply(change, actor, now) for change in checked]
        applied = [answer.job_id for answer in answers if isinstance(answer, Applied)]
        self._after(applied, now)
        return answers

    def _apply(self, change: Transition, actor: str, now: datetime) -> Applied | Refused:
        job = self._jobs.get(change.job_id)
        if job is None:
            return Refused(change.job_id, "missing", None, None)
        if job.token != change.token:
            return Refused(job.id, "stale", job.status, job.token)
        if job.status is not change.from_status:
            return Refused(job.id, "invalid", job.status, job.token)
        self._freed = self._freed or (job.status is Status.RUNNING and self.controls.counts(job))
        after = transitioned(job, change, now)
        self._put(after)
        self._record(after, job.status, job.attempt, change.reason, actor, now)
        if after.status.is_terminal:
            self.callbacks.owe(after)
        return Applied(job.id, after.status)

    def _after(self, applied: Iterable[UUID], now: datetime) -> None:
        """Wake parents whose last child has ended, then announce what happened."""
        touched = [self._jobs[job_id] for job_id in dict.fromkeys(applied)]
        ended = [job for job in touched if job.status.is_terminal]
        parents = [job.parent_id for job in ended if job.parent_id is not None]
        parked = [job.id for job in touched if job.waiting_on is not None]
        woken = [job for parent in dict.fromkeys([*parents, *parked]) if (job := self._wake(parent, now)) is not None]
        self._announce_runnable([*touched, *woken])
        if ended:
            self._hint("ended", str(ended[0].id) if len(ended) == 1 else "")
        if self._freed:
            self._freed = False
            self._hint("freed", "")

    def _wake(self, parent_id: UUID, now: datetime) -> JobRecord | None:
        parent = self._jobs.get(parent_id)
        if parent is None or parent.waiting_on is None:
            return None
        if parent.waiting_on is WaitingOn.LLM_BATCH and not self.llm_requests.is_answered(parent_id):
            return None
        if parent.waiting_on is WaitingOn.CHILDREN and any(
            not self._jobs[child].status.is_terminal for child in self._children[parent_id].values()
        ):
            return None
        woken = replace(parent, waiting_on=None, run_at=max(parent.run_at, now))
        self._put(woken)
        return woken

    def _put_requests_back(self, batch_id: UUID, positions: Collection[int], most: int) -> int:
        return self.llm_requests.put_back(batch_id, positions, most)

    def _batch_changed(self, batch_id: UUID) -> None:
        now = self._clock.now()
        askers = [self._jobs.get(job_id) for job_id in self.llm_requests.askers(batch_id)]
        parked = [job.id for job in askers if job is not None and job.waiting_on is WaitingOn.LLM_BATCH]
        self._announce_runnable([job for job_id in parked if (job := self._wake(job_id, now)) is not None])
        self._hint("batch", str(batch_id))

    async def cancel(self, job_ids: Sequence[UUID], *, actor: str) -> list[Applied | Refused]:
        """End unfinished jobs as ``cancelled``, then their unfinished children, and theirs."""
        answers = await self._cancel_generation(job_ids, actor)
        seen = set(job_ids)
        parents = cancelled_jobs(answers)
        while parents:
            children = [
                child
                for parent in parents
                for child in self._children.get(parent, {}).values()
                if child not in seen
                and (not self._jobs[child].status.is_terminal or self._jobs[child].status is Status.CANCELLED)
            ]
            seen.update(children)
            parents = cancelled_jobs(await self._cancel_generation(children, actor))
        return answers

    async def _cancel_generation(self, job_ids: Sequence[UUID], actor: str) -> list[Applied | Refused]:
        running = [job_id for job_id in dict.fromkeys(job_ids) if job_id in self._running]
        answers = await self._decide_and_apply(job_ids, Cancel(), actor)
        for job_id in running:
            self._hint("cancelled", str(job_id))
        return answers

    async def release(self, job_ids: Sequence[UUID], *, actor: str) -> list[Applied | Refused]:
        """Queue held jobs."""
        return await self._decide_and_apply(job_ids, Release(), actor)

    async def _decide_and_apply(self, job_ids: Sequence[UUID], event: Event, actor: str) -> list[Applied | Refused]:
        now = self._clock.now()
        answers = [self._decide_one(job_id, event, actor, now) for job_id in job_ids]
        self._after([answer.job_id for answer in answers if isinstance(answer, Applied)], now)
        return answers

    def _decide_one(self, job_id: UUID, event: Event, actor: str, now: datetime) -> Applied | Refused:
        job = self._jobs.get(job_id)
        if job is None:
            return Refused(job_id, "missing", None, None)
        try:
            change = decide(job, event, Policy(), now)
        except InvalidTransition:
            return Refused(job_id, "invalid", job.status, job.token)
        return self._apply(change, actor, now)

    async def run_now(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Make pending jobs that wait for their time runnable at once."""
        now = self._clock.now()
        waiting = [
            job
            for job in map(self._jobs.get, dict.fromkeys(job_ids))
            if job is not None and job.id in self._pending.get(job.queue, ()) and job.run_at > now
        ]
        changed = [replace(job, run_at=now) for job in waiting]
        for job in changed:
            self._put(job)
        self._announce_runnable(changed)
        return [job.id for job in changed]

    async def renew(self, attempts: Sequence[AttemptKey], *, lease_seconds: float) -> list[AttemptKey]:
        """Extend leases; returns the lost ones."""
        return self.renew_now(attempts, lease_seconds)

    def renew_now(self, attempts: Sequence[AttemptKey], lease_seconds: float | None = None) -> list[AttemptKey]:
        """Extend leases, by default by as much as was claimed; returns the lost ones."""
        now = self._clock.now()
        lost = []
        for attempt in attempts:
            job = self._jobs.get(attempt.job_id)
            if job is None or job.status is not Status.RUNNING or job.token != attempt.token:
                lost.append(attempt)
                continue
            seconds = self._running[job.id] if lease_seconds is None else lease_seconds
            self._jobs[job.id] = replace(job, lease_expires_at=now + timedelta(seconds=seconds))
        return lost

    async def rescue(
        self,
        *,
        actor: str,
        policy: Policy,
        limit: int,
        retry_delay_seconds: Callable[[int], float],
        alive: Collection[AttemptKey] = (),
        only_nodes: Sequence[str] | None = None,
        server_up_seconds: float = 0.0,  # noqa: ARG002 - there is no server
    ) -> list[Rescued]:
        """Take back jobs whose lease has expired, and end waiting ones whose deadline has passed."""
        now = self._clock.now()
        rescued = []
        expired = [
            job
            for job in self._jobs.values()
            if needs_rescue(job, now) and (only_nodes is None or job.node in only_nodes)
        ]
        for job in [job for job in expired if AttemptKey(job.id, job.token) not in alive][:limit]:
            event = LeaseExpire(retry_delay_seconds(job.attempt)) if job.status is Status.RUNNING else DeadlinePass()
            change = decide(job, event, policy, now)
            self._apply(change, actor, now)
            rescued.append(Rescued(job.id, job.kind, job.queue, change.to_status, change.reason))
        self._after([job.job_id for job in rescued], now)
        return rescued

    async def expire_leases(self, nodes: Sequence[str]) -> int:
        """End the leases of dead nodes."""
        now = self._clock.now()
        running = [self._jobs[job_id] for job_id in self._running]
        held = [job for job in running if job.node in nodes and job.lease_expires_at and job.lease_expires_at >= now]
        for job in held:
            self._put(replace(job, lease_expires_at=now - timedelta(microseconds=1)))
        return len(held)

    async def progress(self, reports: Mapping[AttemptKey, Mapping[str, Any]]) -> set[AttemptKey]:
        """Store the progress of running attempts; returns the stale ones."""
        copies = {
            attempt: json.loads(json_text(f"progress of job {attempt.job_id}", report))
            for attempt, report in reports.items()
        }
        stale = set()
        for attempt, report in copies.items():
            job = self._jobs.get(attempt.job_id)
            if job is None or job.status is not Status.RUNNING or job.token != attempt.token:
                stale.add(attempt)
            else:
                self._jobs[job.id] = replace(job, progress=report)
        return stale

    async def get(self, job_id: UUID) -> JobRecord | None:
        """Read one job."""
        found = await self.get_many([job_id])
        return found[0] if found else None

    async def get_many(self, job_ids: Sequence[UUID]) -> list[JobRecord]:
        """Read the jobs that exist among these."""
        now = self._clock.now()
        return [self._visible(self._jobs[job_id], now) for job_id in dict.fromkeys(job_ids) if job_id in self._jobs]

    def _visible(self, job: JobRecord, now: datetime) -> JobRecord:
        if job.callback_url is None:
            return visible(job, now)
        sent_at, code, error = self.callbacks.of(job.id)
        shown = replace(job, callback_sent_at=sent_at, callback_status_code=code, callback_error=error)
        return visible(shown, now)

    async def children(self, parent_id: UUID, child_key: str) -> list[JobRecord]:
        """Read a parent's children of one key, by index."""
        places = sorted(place for place in self._children.get(parent_id, {}) if place[0] == child_key)
        return await self.get_many([self._children[parent_id][place] for place in places])

    async def list_jobs(self, where: JobFilter, *, limit: int, before: UUID | None = None) -> list[JobRecord]:
        """List jobs, newest first."""
        found = [
            job for job in self._jobs.values() if (before is None or job.id < before) and self._matches(job, where)
        ]
        now = self._clock.now()
        return [self._visible(job, now) for job in sorted(found, key=lambda job: job.id, reverse=True)[:limit]]

    async def errors(self, where: JobFilter) -> list[ErrorCount]:
        """Count failed jobs by kind, queue and error, the latest first."""
        return count_errors(job for job in self._jobs.values() if self._matches(job, where))

    def _matches(self, job: JobRecord, where: JobFilter) -> bool:
        if not matches(job, where):
            return False
        if where.retried is None:
            return True
        return where.retried == any(other.metadata.get("retry_of") == str(job.id) for other in self._jobs.values())

    async def prune(self, retention: Retention, *, term: int | None = None) -> Pruned:
        """Delete what need not be kept any longer. History goes with its job."""
        if term is not None:
            self.leader_lock.require_term(term)
        now = self._clock.now()
        old = [
            job
            for job in self._jobs.values()
            if prunable(job, self._parent(job), retention, now) and not self.callbacks.is_pending(job.id)
        ]
        for job in old:
            self.callbacks.forget(job.id)
            self.steps.forget(job.id)
            self.llm_requests.forget(job.id)
            del self._jobs[job.id]
            if job.parent_id is not None:
                self._children[job.parent_id].pop((job.child_key or "", job.child_index or 0), None)
        expired = [job for job in self._jobs.values() if job.result is not None and visible(job, now).result is None]
        for job in expired:
            self._jobs[job.id] = replace(job, result=None)
        return Pruned(len(old), len(expired), batches=self._prune_batches(retention, now))

    def _prune_batches(self, retention: Retention, now: datetime) -> int:
        if retention.batches_seconds is None:
            return 0
        ended = self.batches.ended_before(now - timedelta(seconds=retention.batches_seconds))
        old = [batch_id for batch_id in ended if not any(map(self._is_unfinished, self.llm_requests.askers(batch_id)))]
        for batch_id in old:
            self.batches.forget(batch_id)
        return len(old)

    def _is_unfinished(self, job_id: UUID) -> bool:
        job = self._jobs.get(job_id)
        return job is not None and not job.status.is_terminal

    def _parent(self, job: JobRecord) -> JobRecord | None:
        return None if job.parent_id is None else self._jobs.get(job.parent_id)

    async def history(self, job_id: UUID, *, after: int = 0) -> list[HistoryRow]:
        """Read a job's transitions, oldest first."""
        return self._history.get(job_id, [])[after:]

    async def summary(self) -> StoreSummary:
        """Count jobs, backlogs and nodes."""
        now = self._clock.now()
        counts = Counter((job.kind, job.queue, job.status) for job in self._jobs.values())
        depths = []
        for queue in sorted(self._pending):
            ready = [self._jobs[job_id].run_at for job_id in self._pending[queue] if self._jobs[job_id].run_at <= now]
            if ready:
                depths.append(QueueDepth(queue, len(ready), min(ready)))
        running = Counter(self._jobs[job_id].node for job_id in self._running)
        return StoreSummary(
            llm_requests=self.llm_requests.counted(),
            callbacks_pending=sum(map(self.callbacks.is_pending, self._jobs)),
            counts=tuple(StatusCount(*key, jobs) for key, jobs in sorted(counts.items())),
            depths=tuple(depths),
            controls=tuple(control for _, control in sorted(self.controls.now().queues.items())),
            quotas=self.controls.usages(self._jobs.values()),
            nodes=tuple(node._replace(running=running[node.name]) for _, node in sorted(self._nodes.items())),
        )

    async def register_node(self, node: str) -> None:
        """Record a node's heartbeat."""
        now = self._clock.now()
        known = self._nodes.get(node)
        self._nodes[node] = Node(node, known.started_at if known else now, now, 0)

    async def forget_node(self, node: str) -> None:
        """Remove a node that stopped in order."""
        self._nodes.pop(node, None)

    async def housekeep(self) -> None:
        """Forget nodes unseen for a day."""
        oldest = self._clock.now() - _FORGET_NODES_AFTER
        self._nodes = {name: node for name, node in self._nodes.items() if node.seen_at >= oldest}

    def subscribe(self, on_hint: Callable[[str, str], None]) -> Callable[[], None]:
        """Call ``on_hint`` from now on; returns what ends that."""
        self._listeners.append(on_hint)
        return lambda: self._listeners.remove(on_hint)

    def _hint(self, topic: str, detail: str) -> None:
        for listener in list(self._listeners):
            listener(topic, detail)

    def _announce_runnable(self, jobs: Iterable[JobRecord]) -> None:
        now = self._clock.now()
        ready = {job.queue for job in jobs if job.id in self._pending.get(job.queue, ()) and job.run_at <= now}
        for queue in sorted(ready):
            self._hint("runnable", queue)
