"""Inserting jobs: one statement over arrays, or COPY where there are many and none can already exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from callboard.actors.errors import ConfigurationError, StoreError
from callboard.actors.jobs.spawning import CHUNK
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.turn import is_delayed, turn
from callboard.actors.jobs.types import AttemptKey, NewJob, Spawned

from .families import require_living_parent, require_running_attempt
from .literals import copy_field, plain_array, text_array
from .statements import Statement, Statements

Execute: TypeAlias = Callable[[Statement, Mapping[str, Any]], Awaitable[Sequence[Sequence[Any]]]]
"""Runs one statement in whatever connection and transaction, and returns its rows."""

COPY_FROM = 64
"""So many jobs are worth COPY's extra round trips."""

_ROUNDS = 10


async def insert(
    execute: Execute, sql: Statements, jobs: Sequence[NewJob], actor: str, parent: AttemptKey | None
) -> list[Spawned]:
    """Insert jobs with their history; one round trip, a second one where some exist already.

    An existing job may end between the insert that it hindered and the look-up; the insert is then tried again.
    Children need a transaction around this, in which their parents stay as they are.

    Raises:
        StaleAttempt: the parent of one has ended, or ``parent`` runs no longer. Nothing was written.
    """
    await _require_parents(execute, sql, jobs, parent)
    answers: list[Spawned | None] = [None] * len(jobs)
    missing = list(range(len(jobs)))
    for _ in range(_ROUNDS):
        missing = await _insert_round(execute, sql, jobs, missing, answers, actor)
        if not missing:
            return [answer for answer in answers if answer is not None]
    raise StoreError(
        f"spawn: {len(missing)} jobs were hindered {_ROUNDS} times by others with their unique_key that had ended when "
        f"looked for, the first being {jobs[missing[0]].unique_key!r} of {jobs[missing[0]].kind!r}; try again"
    )


async def _require_parents(
    execute: Execute, sql: Statements, jobs: Sequence[NewJob], attempt: AttemptKey | None
) -> None:
    wanted = {job.parent_id for job in jobs if job.parent_id is not None}
    if attempt is not None:
        wanted.add(attempt.job_id)
    if not wanted:
        return
    rows = await execute(sql.share_parents, {"ids": plain_array([parent_id.hex for parent_id in wanted])})
    found = {UUID(str(parent_id)): (Status(status), token) for parent_id, status, token in rows}
    for parent_id, (status, _) in found.items():
        require_living_parent(parent_id, status)
    if attempt is not None:
        require_running_attempt(attempt, *found.get(attempt.job_id, (None, None)))


async def _insert_round(
    execute: Execute,
    sql: Statements,
    jobs: Sequence[NewJob],
    places: Sequence[int],
    answers: list[Spawned | None],
    actor: str,
) -> list[int]:
    # In one order everywhere: two spawns that wait for each other's unique keys would deadlock.
    ordered = sorted(places, key=lambda place: (*_uniqueness(jobs[place]), place))
    inserted: set[str] = set()
    for start in range(0, len(ordered), CHUNK):
        chunk = [jobs[place] for place in ordered[start : start + CHUNK]]
        rows = await execute(sql.insert, insert_columns(chunk) | {"actor": actor})
        inserted.update((rows[0][0] or "").split(","))
    for place in ordered:
        job_id = str(jobs[place].id)
        if job_id in inserted:
            answers[place] = Spawned(jobs[place].id, created=True)
            inserted.discard(job_id)
    missing = [place for place in ordered if answers[place] is None]
    if missing:
        for place, existing in await execute(sql.find_existing, _identities(jobs, missing)):
            answers[place] = Spawned(UUID(existing), created=False)
    return [place for place in missing if answers[place] is None]


def _uniqueness(job: NewJob) -> tuple[str, str, int, str, int]:
    """What may keep a job out, in a form that sorts."""
    unique_key, kind = (job.unique_key, job.kind) if job.unique_key is not None else ("", "")
    if job.parent_id is None:
        return unique_key, kind, 0, "", 0
    return unique_key, kind, job.parent_id.int, job.child_key or "", job.child_index or 0


def insert_columns(jobs: Sequence[NewJob]) -> dict[str, str]:
    """Return the parameters of ``Statements.insert``, but for ``actor``."""
    return {
        "ids": plain_array([job.id.hex for job in jobs]),
        "kinds": text_array([job.kind for job in jobs]),
        "queues": text_array([job.queue for job in jobs]),
        "arguments": text_array([job.arguments for job in jobs]),
        "statuses": plain_array([job.status for job in jobs]),
        "priorities": plain_array([str(job.priority) for job in jobs]),
        "delays": plain_array([str(job.delay_seconds) for job in jobs]),
        "run_ats": _nullable(job.run_at and f'"{job.run_at.isoformat()}"' for job in jobs),
        "max_attempts": plain_array([str(job.max_attempts) for job in jobs]),
        "timeouts": _nullable(job.timeout_seconds for job in jobs),
        "deadlines": _nullable(job.deadline_seconds for job in jobs),
        "unique_keys": text_array([job.unique_key for job in jobs]),
        "owners": text_array([job.owner for job in jobs]),
        "tags": text_array([tags_array(job) for job in jobs]),
        "metadata": text_array([job.metadata for job in jobs]),
        "parent_ids": _nullable(job.parent_id for job in jobs),
        "child_keys": text_array([job.child_key for job in jobs]),
        "child_indexes": _nullable(job.child_index for job in jobs),
        "concurrency_keys": text_array([job.concurrency_key for job in jobs]),
        "concurrency_limits": _nullable(job.concurrency_limit for job in jobs),
        "unique_statuses": text_array(
            [None if job.unique_statuses is None else plain_array(job.unique_statuses) for job in jobs]
        ),
        "result_ttls": _nullable(job.result_ttl_seconds for job in jobs),
        "callback_urls": text_array([job.callback_url for job in jobs]),
    }


def tags_array(job: NewJob) -> str | None:
    """Return a job's tags as an array literal; None where it has none."""
    return text_array(job.tags) if job.tags else None


def _identities(jobs: Sequence[NewJob], places: Sequence[int]) -> dict[str, str]:
    wanted = [jobs[place] for place in places]
    columns = insert_columns(wanted)
    names = ("ids", "kinds", "unique_keys", "parent_ids", "child_keys", "child_indexes")
    return {name: columns[name] for name in names} | {"places": plain_array(map(str, places))}


def _nullable(values: Iterable[object]) -> str:
    return plain_array(["NULL" if value is None else str(value) for value in values])


def copyable(jobs: Sequence[NewJob]) -> bool:
    """Tell whether COPY can insert these: many, none that an existing job could stand in for, none with a callback."""
    return len(jobs) >= COPY_FROM and all(
        job.unique_key is None and job.parent_id is None and job.callback_url is None for job in jobs
    )


async def copy(
    connection: psycopg.AsyncConnection[Any],
    sql: Statements,
    chunks: Iterable[Sequence[NewJob]],
    chunk_count: int,
    actor: str,
) -> list[Spawned]:
    """Insert jobs with their history by COPY, in one transaction, each chunk asked for when the one before was sent.

    Raises:
        psycopg.errors.UniqueViolation: one of the ids exists. Nothing was written.
        Exception: what a chunk raises. Nothing was written.
    """
    copied: list[_Copied] = []
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(sql.begin_copy.native, {"count": chunk_count})
        [(now, numbers)] = await cursor.fetchall()
        lines = _JobLines(now, sql.aging_seconds)
        async with cursor.copy(sql.copy_jobs.native) as stream:
            for number, chunk in zip(numbers, chunks, strict=True):
                ids = [job.id.hex for job in chunk]
                await stream.write(lines.of(chunk, ids, number))
                copied.append(_Copied(number, chunk, ids))
        await cursor.execute(sql.record_copied.native, _records(copied) | {"actor": actor})
        queues = lines.runnable_queues
        if queues:
            payloads = text_array([f"runnable:{queue}" for queue in sorted(queues)])
            await cursor.execute(sql.notify.native, {"payloads": payloads})
    return [Spawned(job.id, True) for chunk in copied for job in chunk.jobs]


class _Copied(NamedTuple):
    """A chunk that was sent."""

    number: int
    jobs: Sequence[NewJob]
    ids: Sequence[str]


def _records(copied: Sequence[_Copied]) -> dict[str, str]:
    """Return the rows of the history for chunks of new jobs: one for each status in a chunk."""
    records = [
        (str(number), status, [job_id for job, job_id in zip(jobs, ids, strict=True) if job.status is status])
        for number, jobs, ids in copied
        for status in {job.status for job in jobs}
    ]
    return {
        "numbers": plain_array([number for number, _, _ in records]),
        "statuses": plain_array([status for _, status, _ in records]),
        "ids": text_array([plain_array(ids) for _, _, ids in records]),
        "counts": plain_array([str(len(ids)) for _, _, ids in records]),
    }


def _run_at(job: NewJob, now: datetime) -> datetime:
    if job.run_at is not None:
        return job.run_at
    return now + timedelta(seconds=job.delay_seconds) if job.delay_seconds else now


class _JobLines:
    """Writes jobs as COPY's lines. Jobs with the same options come together, as a rule: their lines end alike.

    Attributes:
        runnable_queues: the queues that got jobs which can be claimed at once.
    """

    def __init__(self, now: datetime, aging_seconds: float) -> None:
        self._now = now
        self._aging_seconds = aging_seconds
        self._options: tuple[object, ...] = ()
        self._end = ""
        self.runnable_queues: set[str] = set()

    def of(self, jobs: Sequence[NewJob], ids: Sequence[str], history_number: int) -> str:
        """Return a line for each job; ``ids`` are theirs."""
        lines = []
        for job, job_id in zip(jobs, ids, strict=True):
            options = job[1:3] + job[4:]  # all but its id and its arguments
            if options != self._options:
                self._options = options
                self._end = _options_fields(job, self._now, self._aging_seconds)
                if job.status == "pending" and _run_at(job, self._now) <= self._now:
                    self.runnable_queues.add(job.queue)
            lines.append(f"{job_id}\t{copy_field(job.arguments)}\t{history_number}\t{self._end}\n")
        return "".join(lines)


def _turn_fields(job: NewJob, now: datetime, aging_seconds: float) -> str:
    run_at = _run_at(job, now)
    if job.status != "pending":
        return "\\N\tf"
    return "\\N\tt" if is_delayed(run_at, now) else f"{turn(run_at, job.priority, aging_seconds)}\tf"


def _options_fields(job: NewJob, now: datetime, aging_seconds: float) -> str:
    deadline = job.deadline_seconds
    return (
        f"{copy_field(job.kind)}\t{copy_field(job.queue)}\t{job.status}\t"
        f"{job.priority}\t{_run_at(job, now)}\t{job.max_attempts}\t"
        f"{_or_null(job.timeout_seconds)}\t{_or_null(deadline and now + timedelta(seconds=deadline))}\t"
        f"{copy_field(job.owner)}\t{copy_field(tags_array(job))}\t"
        f"{copy_field(job.metadata)}\t{copy_field(job.concurrency_key)}\t"
        f"{_or_null(job.concurrency_limit)}\t{_or_null(job.result_ttl_seconds)}\t"
        f"{_turn_fields(job, now, aging_seconds)}"
    )


_NULL = r"\N"


def _or_null(value: object) -> object:
    return _NULL if value is None else value


def execute_native(connection: psycopg.AsyncConnection[Any]) -> Execute:
    """Return how statements are run on a psycopg connection."""

    async def execute(statement: Statement, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            return await (await cursor.execute(statement.native, parameters)).fetchall()

    return execute


async def execute_in(connection: object) -> Execute:
    """Return how statements are run in a caller's connection and transaction.

    Args:
        connection: SQLAlchemy's ``AsyncSession``, ``AsyncConnection``, ``Session`` or ``Connection`` (of any driver),
            or psycopg's ``AsyncConnection`` or ``Connection``. The synchronous ones block while a statement runs.

    Raises:
        ConfigurationError: it is something else.
    """
    if isinstance(connection, psycopg.AsyncConnection):
        return execute_native(connection)
    if isinstance(connection, AsyncSession | AsyncConnection):
        return _execute_sqlalchemy(connection)
    if isinstance(connection, Session | Connection | psycopg.Connection):
        return _execute_blocking(connection)
    raise ConfigurationError(
        f"connection is a {type(connection).__module__}.{type(connection).__qualname__}; expected SQLAlchemy's "
        f"AsyncSession, AsyncConnection, Session or Connection, or a connection of psycopg"
    )


def _execute_sqlalchemy(connection: AsyncSession | AsyncConnection) -> Execute:
    async def execute(statement: Statement, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        return (await connection.execute(text(statement.named), dict(parameters))).all()

    return execute


def _execute_blocking(connection: Session | Connection | psycopg.Connection[Any]) -> Execute:
    async def execute(statement: Statement, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if isinstance(connection, psycopg.Connection):
            with connection.cursor(row_factory=tuple_row) as cursor:
                return cursor.execute(statement.native, parameters).fetchall()
        return connection.execute(text(statement.named), dict(parameters)).all()

    return execute
