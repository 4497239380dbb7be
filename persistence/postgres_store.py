"""The job store on PostgreSQL: connections, transactions and errors; the SQL is in the modules beside this one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar, cast
from uuid import UUID

import psycopg
from psycopg import errors as pg
from sqlalchemy import QueuePool, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callboard.actors.errors import InvalidTransition, QueueFull
from callboard.actors.jobs.decide import Cancel, Event, Policy, Release, Transition, decide
from callboard.actors.jobs.quotas import QuotaCheck, quota_checks, require_open_queues
from callboard.actors.jobs.retention import Pruned, Retention
from callboard.actors.jobs.spawning import CHUNK
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import (
    Applied,
    AttemptKey,
    ClaimedJob,
    ErrorCount,
    HistoryRow,
    JobFilter,
    JobRecord,
    NewJob,
    QueueDemand,
    Refused,
    Rescued,
    Spawned,
    StoreSummary,
)
from callboard.actors.ports import Telemetry
from callboard.actors.settings import Settings

from . import limiting, reading, rescuing, spawning, uniqueness, writing
from .batches import PostgresBatches
from .callbacks import PostgresCallbacks
from .claim_marks import ClaimMarks, Walk
from .completing import completions
from .controls import PostgresControls
from .engine import behind_pooler, connect_alike, make_engine, readable_errors
from .families import cancelled_jobs
from .lease_statements import LeaseStatements
from .limit_statements import LimitStatements
from .literals import plain_array, text_array
from .llm_requests import PostgresLlmRequests
from .migrate import check_schema
from .pooler import require_session
from .retention import RetentionStatements, prune
from .schedule_statements import ScheduleStatements
from .schedules import PostgresSchedules
from .statements import PROMOTED_TOGETHER, Statements
from .steps import PostgresSteps
from .uniqueness import UniqueStatements

_Result = TypeVar("_Result")
_Native = psycopg.AsyncConnection[Any]

_DEADLOCK_ROUNDS: Final = 5
_PROMOTION_INTERVAL_SECONDS: Final = 1.0
_CONNECTIONS_RETURN_SECONDS: Final = 2.0
_CONNECTIONS_LOOK_SECONDS: Final = 0.005


class _Locked(NamedTuple):
    """A job as found and locked: what ``decide`` needs."""

    id: UUID
    status: Status
    token: int
    attempt: int
    max_attempts: int
    deadline: datetime | None
    now: datetime


class PostgresStore:
    """Implements ``JobStore``. Safe to share between tasks of one event loop.

    Args:
        settings: where the database is, and the pool's bounds.
        telemetry: measures each statement.
        engine: another engine than the one that ``settings`` describe; the store closes it too.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, *, engine: AsyncEngine | None = None) -> None:
        self._settings = settings
        self._telemetry = telemetry
        aging_seconds = settings.priority_aging_seconds
        self._sql = Statements(settings.database_schema, aging_seconds)
        self._leases = LeaseStatements(settings.database_schema)
        self._limits = LimitStatements(settings.database_schema, aging_seconds)
        self._unique = UniqueStatements(settings.database_schema, aging_seconds)
        self._marks = ClaimMarks()
        self._next_promotion = 0.0
        self._holders: set[AttemptKey] = set()
        self.controls = PostgresControls(self._limits, self._native)
        self.callbacks = PostgresCallbacks(settings.database_schema, self._native)
        self.steps = PostgresSteps(settings.database_schema, self._native)
        self.schedules = PostgresSchedules(ScheduleStatements(settings.database_schema), self._native, self.spawn)
        self.batches = PostgresBatches(settings.database_schema, self._native)
        self.llm_requests = PostgresLlmRequests(settings.database_schema, self._native, self.batches)
        self._engine = engine or make_engine(settings)

    async def open(self) -> None:
        """Connect and check the server, the schema, and that no pooler is in between without our knowledge."""
        async with self._connection("open") as connection:
            await connection.run_sync(check_schema, self._settings.database_schema)
        if not behind_pooler(self._settings):
            await self._native("open", self._require_session)

    async def _require_session(self, connection: _Native) -> None:
        await require_session(connection, partial(connect_alike, self._settings))

    async def close(self) -> None:
        """Close every connection. Twice is fine."""
        # Where a caller was cancelled, SQLAlchemy gives its connection back in a task of its own, a moment later; one
        # that comes back after the pool's end would stay open.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONNECTIONS_RETURN_SECONDS):
                while cast(QueuePool, self._engine.pool).checkedout():  # noqa: ASYNC110 - a pool tells nobody
                    await asyncio.sleep(_CONNECTIONS_LOOK_SECONDS)
        await self._engine.dispose()

    async def spawn(
        self,
        jobs: Sequence[NewJob],
        *,
        actor: str,
        connection: object | None = None,
        parent: AttemptKey | None = None,
    ) -> list[Spawned]:
        """Insert jobs.

        Args:
            jobs: what to insert.
            actor: who does it, for the history.
            connection: a connection or session of the caller's (see ``spawning.execute_in``), in whose transaction the
                jobs are written; they exist, and workers are woken, when the caller commits.
            parent: the attempt that spawns these as its children, where it is one.
        """
        if not jobs:
            return []
        await self.controls.mark_keyed({job.queue for job in jobs if job.concurrency_key is not None}, actor=actor)
        controls = await self.controls.current()
        require_open_queues(jobs, controls)
        checks = quota_checks(jobs, controls.limits)
        try:
            spawned = await self._insert_all(jobs, checks, actor, connection, parent)
        except QueueFull:
            self._count(checks, allowed=False)
            raise
        self._count(checks, allowed=True)
        return spawned

    async def spawn_alike(self, chunks: Iterable[Sequence[NewJob]], chunk_count: int, *, actor: str) -> list[Spawned]:
        """Insert jobs by COPY, made while the server works; where there is more to it than that, as ``spawn`` does."""
        chunks = iter(chunks)
        first = next(chunks, ())
        controls = await self.controls.current()
        if controls.limits.bounds_queued or not spawning.copyable(first):
            return await self.spawn([*first, *chain.from_iterable(chunks)], actor=actor)
        await self.controls.mark_keyed({job.queue for job in first if job.concurrency_key is not None}, actor=actor)
        require_open_queues(first, await self.controls.current())
        every = chain((first,), chunks)
        return await self._native("spawn", lambda own: spawning.copy(own, self._sql, every, chunk_count, actor))

    def _count(self, checks: Sequence[QuotaCheck], *, allowed: bool) -> None:
        for scope in {check.scope for check in checks}:
            self._telemetry.quota_checked(f"{scope.value}_queued", allowed)

    async def _insert_all(
        self,
        jobs: Sequence[NewJob],
        checks: Sequence[QuotaCheck],
        actor: str,
        connection: object | None,
        parent: AttemptKey | None,
    ) -> list[Spawned]:
        if connection is not None:
            with readable_errors("spawn", callers_transaction=True):
                execute = await spawning.execute_in(connection)
                await self.controls.require_room(execute, checks, exact=False)
                return await self._insert_in_transaction(execute, jobs, actor, parent)
        if checks or uniqueness.spans(jobs):
            return await self._native("spawn", lambda own: self._insert_checked(own, checks, jobs, actor, parent))
        return await self._native("spawn", lambda own: self._insert(own, jobs, actor, parent))

    async def _insert_in_transaction(
        self, execute: spawning.Execute, jobs: Sequence[NewJob], actor: str, parent: AttemptKey | None
    ) -> list[Spawned]:
        if uniqueness.spans(jobs):
            return await uniqueness.insert(execute, self._sql, self._unique, jobs, actor, parent)
        return await spawning.insert(execute, self._sql, jobs, actor, parent)

    async def _insert_checked(
        self,
        connection: _Native,
        checks: Sequence[QuotaCheck],
        jobs: Sequence[NewJob],
        actor: str,
        parent: AttemptKey | None,
    ) -> list[Spawned]:
        async with connection.transaction():
            execute = spawning.execute_native(connection)
            if checks:
                await self.controls.require_room(execute, checks, exact=True)
            if uniqueness.spans(jobs):
                return await uniqueness.insert(execute, self._sql, self._unique, jobs, actor, parent)
            return await self._insert(connection, jobs, actor, parent)

    async def _insert(
        self, connection: _Native, jobs: Sequence[NewJob], actor: str, parent: AttemptKey | None
    ) -> list[Spawned]:
        if parent is None and spawning.copyable(jobs):
            with contextlib.suppress(pg.UniqueViolation):  # a repeated call: insert only what is missing
                chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
                return await spawning.copy(connection, self._sql, chunks, len(chunks), actor)
        execute = spawning.execute_native(connection)
        if len(jobs) == 1 and jobs[0].parent_id is None and parent is None:
            return await spawning.insert(execute, self._sql, jobs, actor, parent)
        async with connection.transaction():
            return await spawning.insert(execute, self._sql, jobs, actor, parent)

    async def claim(self, demands: Sequence[QueueDemand], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        """Take runnable jobs: in one statement from all queues without limits, then from those with some."""
        plain, limited = (await self.controls.current()).route(demands)
        jobs = await self._claim_plain(plain, node, lease_seconds) if plain else []
        if limited:
            found = await self._native(
                "claim_limited",
                lambda own: limiting.claim(own, self._limits, limited, node=node, lease_seconds=lease_seconds),
            )
            self._holders.update(found.holders)
            jobs += found.jobs
            for name in found.rate_limited:
                self._telemetry.rate_limited(name.partition(":")[0])
        return jobs

    async def _claim_plain(self, wanted: Sequence[QueueDemand], node: str, lease_seconds: float) -> list[ClaimedJob]:
        parameters = self._marks.begin(wanted) | {
            "queues": text_array([demand.queue for demand in wanted]),
            "limits": plain_array([str(demand.limit) for demand in wanted]),
            "node": node,
            "lease": lease_seconds,
        }
        rows = await self._native("claim", lambda own: _rows(own, self._sql.claim.native, parameters))
        queues = sum(row[0] is None for row in rows[: len(wanted)])
        self._marks.learn(wanted, [_walk(row) for row in rows[:queues]])
        del rows[:queues]
        if len(rows) >= sum(demand.limit for demand in wanted) and time.monotonic() >= self._next_promotion:
            await self._promote(wanted)
        return list(map(ClaimedJob._make, rows))

    async def _promote(self, wanted: Sequence[QueueDemand]) -> None:
        """Let delayed jobs of busy queues, whose time has come, into the order of claims."""
        parameters = {"queues": text_array([demand.queue for demand in wanted]), "limit": PROMOTED_TOGETHER}
        [(promoted,)] = await self._native("promote", lambda own: _rows(own, self._sql.promote.native, parameters))
        if promoted < PROMOTED_TOGETHER:
            self._next_promotion = time.monotonic() + _PROMOTION_INTERVAL_SECONDS

    async def adopt(self, known: Sequence[AttemptKey], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        """Give a node what it claimed without hearing of it."""
        parameters = {**writing.renewal(known, lease_seconds), "node": node}
        rows = await self._native("adopt", lambda own: _rows(own, self._leases.adopt.native, parameters))
        orphans = list(map(ClaimedJob._make, rows))
        self._holders.update(AttemptKey(job.id, job.token) for job in orphans)  # some of them may hold permits
        return orphans

    async def apply(self, transitions: Sequence[Transition], *, actor: str) -> list[Applied | Refused]:
        """Write transitions by compare-and-set."""
        if not transitions:
            return []
        # A worker ends what it has claimed itself; the others' permits are given back by cancels and rescues.
        holders = [key for key in map(_attempt, transitions) if key in self._holders] if self._holders else []

        async def body(connection: _Native) -> list[Applied | Refused]:
            if not holders and len(completions(transitions)) == len(transitions):
                writer = writing.TransitionWriter(connection, self._sql, actor)
                return await writer.complete(transitions)
            async with connection.transaction():
                writer = writing.TransitionWriter(connection, self._sql, actor)
                answers = await writer.write(transitions)
                if holders:
                    await limiting.release(connection, self._limits, holders)
                await writer.announce()
                return answers

        answers = await self._native("apply", body)
        self._holders.difference_update(holders)
        return answers

    async def cancel(self, job_ids: Sequence[UUID], *, actor: str) -> list[Applied | Refused]:
        """End unfinished jobs as ``cancelled``, then their unfinished children, and theirs.

        A generation is a transaction of its own: children that end lock their parents, so to lock both here, parents
        first, would deadlock with them. A parent that has ended gets no new children. A cancel that was interrupted
        between two generations is completed by the next one: it goes on through what it finds cancelled.
        """
        answers = await self._decide_and_write("cancel", job_ids, Cancel(), actor)
        seen = set(job_ids)
        parents = cancelled_jobs(answers)
        while parents:
            children = [child_id for child_id in await self._children_to_cancel(parents) if child_id not in seen]
            seen.update(children)
            parents = cancelled_jobs(await self._decide_and_write("cancel", children, Cancel(), actor))
        return answers

    async def _children_to_cancel(self, parent_ids: Sequence[UUID]) -> list[UUID]:
        ids = {"ids": plain_array({parent_id.hex for parent_id in parent_ids})}
        rows = await self._native("cancel", lambda own: _rows(own, self._sql.children_to_cancel.native, ids))
        return [child_id for (child_id,) in rows]

    async def release(self, job_ids: Sequence[UUID], *, actor: str) -> list[Applied | Refused]:
        """Queue held jobs."""
        return await self._decide_and_write("release", job_ids, Release(), actor)

    async def _decide_and_write(
        self, operation: str, job_ids: Sequence[UUID], event: Event, actor: str
    ) -> list[Applied | Refused]:
        if not job_ids:
            return []

        async def body(connection: _Native) -> list[Applied | Refused]:
            async with connection.transaction():
                locked = await self._lock(connection, job_ids)
                plans = [_plan(job_id, locked.get(job_id), event) for job_id in job_ids]
                writer = writing.TransitionWriter(connection, self._sql, actor)
                written = iter(await writer.write([plan for plan in plans if isinstance(plan, Transition)]))
                answers = [next(written) if isinstance(plan, Transition) else plan for plan in plans]
                if isinstance(event, Cancel):
                    running = [job for job in locked.values() if job.status is Status.RUNNING]
                    writer.cancelled([job.id for job in running])
                    if running:
                        ended = [AttemptKey(job.id, job.token) for job in running]
                        await limiting.release(connection, self._limits, ended)
                await writer.announce()
                return answers

        return await self._native(operation, body)

    async def _lock(self, connection: _Native, job_ids: Sequence[UUID]) -> dict[UUID, _Locked]:
        ids = {"ids": plain_array({job_id.hex for job_id in job_ids})}
        rows = await _rows(connection, self._sql.lock_jobs.native, ids)
        return {row[0]: _Locked(row[0], Status(row[1]), *row[2:]) for row in rows}

    async def run_now(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Make pending jobs that wait for their time runnable at once."""
        ids = {"ids": plain_array({job_id.hex for job_id in job_ids})}
        rows = await self._native("run_now", lambda own: _rows(own, self._sql.run_now.native, ids))
        return list(rows[0][0] or ())

    async def renew(self, attempts: Sequence[AttemptKey], *, lease_seconds: float) -> list[AttemptKey]:
        """Extend leases; returns the lost ones."""
        parameters = writing.renewal(attempts, lease_seconds)
        rows = await self._native("renew", lambda own: _rows(own, self._leases.renew.native, parameters))
        kept = set(map(AttemptKey._make, rows))
        return [attempt for attempt in attempts if attempt not in kept]

    async def rescue(
        self,
        *,
        actor: str,
        policy: Policy,
        limit: int,
        retry_delay_seconds: Callable[[int], float],
        alive: Collection[AttemptKey] = (),
        only_nodes: Sequence[str] | None = None,
        server_up_seconds: float = 0.0,
    ) -> list[Rescued]:
        """Take back jobs whose lease has expired, and end waiting ones whose deadline has passed."""
        return await self._native(
            "rescue",
            lambda own: rescuing.sweep(
                own,
                self._sql,
                self._leases,
                self._limits,
                actor=actor,
                policy=policy,
                limit=limit,
                retry_delay_seconds=retry_delay_seconds,
                alive=alive,
                only_nodes=only_nodes,
                server_up_seconds=server_up_seconds,
            ),
        )

    async def expire_leases(self, nodes: Sequence[str]) -> int:
        """End the leases of dead nodes."""
        return await self._native("expire_leases", lambda own: rescuing.expire(own, self._leases, nodes))

    async def progress(self, reports: Mapping[AttemptKey, Mapping[str, Any]]) -> set[AttemptKey]:
        """Store the progress of running attempts, in one statement; returns the stale ones."""
        if not reports:
            return set()
        parameters = writing.progress_columns(reports)
        rows = await self._native("progress", lambda own: _rows(own, self._sql.progress.native, parameters))
        return set(reports) - set(map(AttemptKey._make, rows))

    async def get(self, job_id: UUID) -> JobRecord | None:
        """Read one job."""
        found = await self.get_many([job_id])
        return found[0] if found else None

    async def get_many(self, job_ids: Sequence[UUID]) -> list[JobRecord]:
        """Read the jobs that exist among these."""
        async with self._connection("get") as connection:
            return await reading.get_many(connection, job_ids)

    async def children(self, parent_id: UUID, child_key: str) -> list[JobRecord]:
        """Read a parent's children of one key, by index."""
        async with self._connection("children") as connection:
            return await reading.children(connection, parent_id, child_key)

    async def list_jobs(self, where: JobFilter, *, limit: int, before: UUID | None = None) -> list[JobRecord]:
        """List jobs, newest first."""
        async with self._connection("list_jobs") as connection:
            schema = self._settings.database_schema
            return await reading.list_jobs(connection, schema, where, limit=limit, before=before)

    async def errors(self, where: JobFilter) -> list[ErrorCount]:
        """Count failed jobs by kind, queue and error, the latest first."""
        async with self._connection("errors") as connection:
            return await reading.errors(connection, self._settings.database_schema, where)

    async def prune(self, retention: Retention, *, term: int | None = None) -> Pruned:
        """Delete what need not be kept any longer, in small steps."""
        statements = RetentionStatements(self._settings.database_schema)
        return await self._native("prune", lambda own: prune(own, statements, retention, term))

    async def history(self, job_id: UUID, *, after: int = 0) -> list[HistoryRow]:
        """Read a job's transitions, oldest first."""
        async with self._connection("history") as connection:
            return await reading.read_history(connection, self._settings.database_schema, job_id, after)

    async def summary(self) -> StoreSummary:
        """Count jobs, backlogs and nodes, in one snapshot."""
        async with self._connection("summary") as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                return await reading.summary(connection)

    async def register_node(self, node: str) -> None:
        """Record a node's heartbeat."""
        async with self._connection("register_node") as connection:
            await reading.register_node(connection, node)

    async def forget_node(self, node: str) -> None:
        """Remove a node that stopped in order."""
        async with self._connection("forget_node") as connection:
            await reading.forget_node(connection, node)

    async def housekeep(self) -> None:
        """Make the history's partitions of the near future; forget nodes unseen for a day."""
        async with self._connection("housekeep") as connection:
            await reading.housekeep(connection, self._settings.database_schema)
        await self._native("housekeep", lambda own: limiting.housekeep(own, self._limits))

    @contextlib.asynccontextmanager
    async def _connection(self, operation: str) -> AsyncIterator[AsyncConnection]:
        """Borrow a connection of the pool; measure, and translate errors."""
        started = time.perf_counter()
        with readable_errors(operation):
            async with self._engine.connect() as connection:
                yield connection
        self._telemetry.statement(operation, time.perf_counter() - started)

    async def _native(self, operation: str, body: Callable[[_Native], Awaitable[_Result]]) -> _Result:
        """Run ``body`` on psycopg's own connection."""
        async with self._connection(operation) as connection:
            raw = await connection.get_raw_connection()
            native: _Native = raw.driver_connection  # type: ignore[assignment]
            try:
                return await _repeat(native, body)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if native.closed:
                    await self._discard(connection)
                raise

    async def _discard(self, connection: AsyncConnection) -> None:
        """Let the pool replace each connection when it is next asked for: where one broke, most others did as well.

        The pool itself stays. Those who are using a connection of it now would give that back to a pool that is no
        longer there, and nobody would close it.
        """
        with contextlib.suppress(exc.DBAPIError):  # fails at once, without the network, and so SQLAlchemy learns of it
            await connection.exec_driver_sql("SELECT 1")


async def _repeat(connection: _Native, body: Callable[[_Native], Awaitable[_Result]]) -> _Result:
    """Run ``body``, again where it lost a deadlock: that has rolled it back as a whole."""
    for _ in range(_DEADLOCK_ROUNDS - 1):
        with contextlib.suppress(pg.DeadlockDetected, pg.SerializationFailure):
            return await body(connection)
    return await body(connection)


def _walk(row: tuple[Any, ...]) -> Walk:
    return Walk(row[2], row[5], int(row[7]), row[6], row[10], row[9])


def _attempt(transition: Transition) -> AttemptKey:
    return AttemptKey(transition.job_id, transition.token)


def _plan(job_id: UUID, job: _Locked | None, event: Event) -> Transition | Refused:
    if job is None:
        return Refused(job_id, "missing", None, None)
    try:
        return decide(job, event, Policy(), job.now)
    except InvalidTransition:
        return Refused(job_id, "invalid", job.status, job.token)


async def _rows(connection: _Native, statement: bytes, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    # Binary: a claim's rows take half the time to decode.
    return await (await connection.execute(statement, parameters, binary=True)).fetchall()
