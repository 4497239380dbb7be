"""The rescue sweep: jobs whose lease has expired, and waiting jobs whose deadline has passed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

from callboard.actors.errors import CallboardError
from callboard.actors.jobs.decide import DeadlinePass, LeaseExpire, Policy, Transition, decide
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import Applied, AttemptKey, Rescued

from . import limiting
from .engine import is_passing
from .lease_statements import LeaseStatements
from .limit_statements import LimitStatements
from .literals import plain_array, text_array
from .statements import Statements
from .writing import TransitionWriter

logger = logging.getLogger(__name__)

_CLAIMS_TOGETHER: Final = 200
"""So many claims at most are looked at in one transaction: some of them have thousands of jobs."""


class Candidate(NamedTuple):
    """A row of the sweep: what ``decide`` needs, and what the report names."""

    id: UUID
    kind: str
    queue: str
    status: Status
    token: int
    attempt: int
    max_attempts: int
    deadline: datetime | None
    now: datetime


async def sweep(
    connection: psycopg.AsyncConnection[Any],
    sql: Statements,
    leases: LeaseStatements,
    limits: LimitStatements,
    *,
    actor: str,
    policy: Policy,
    limit: int,
    retry_delay_seconds: Callable[[int], float],
    alive: Collection[AttemptKey],
    only_nodes: Sequence[str] | None,
    server_up_seconds: float,
) -> list[Rescued]:
    """Rescue up to ``limit`` jobs in one transaction. Rows that another node's sweep holds are left to it."""
    if only_nodes is None and not await _server_is_up(connection, server_up_seconds):
        return []
    claims = await settle(connection, leases)
    async with connection.transaction():
        found = await _candidates(connection, sql, leases, claims, limit + len(alive), only_nodes)
        candidates = [job for job in found if AttemptKey(job.id, job.token) not in alive][:limit]
        decided = [(job, _decide(job, policy, retry_delay_seconds)) for job in candidates]
        chosen = [(job, transition) for job, transition in decided if transition is not None]
        if not chosen:
            return []
        writer = TransitionWriter(connection, sql, actor)
        written = await _write(connection, writer, [transition for _, transition in chosen])
        ended = [
            AttemptKey(job.id, job.token) for job, _ in chosen if job.id in written and job.status is Status.RUNNING
        ]
        if ended:
            await limiting.release(connection, limits, ended)
        await writer.announce()
    return [
        Rescued(job.id, job.kind, job.queue, transition.to_status, transition.reason)
        for job, transition in chosen
        if job.id in written
    ]


async def settle(connection: psycopg.AsyncConnection[Any], leases: LeaseStatements) -> list[int]:
    """Look at each claim whose lease is over; return the numbers of those of whose jobs one has lost its own."""
    expired: list[int] = []
    after: tuple[str, int] = ("-infinity", 0)
    while True:
        async with connection.transaction():
            position = {"after": after[0], "number": after[1], "limit": _CLAIMS_TOGETHER}
            due = await (await connection.execute(leases.due.native, position)).fetchall()
            if not due:
                return expired
            numbers = plain_array([str(number) for number, _ in due])
            [(found,)] = await (await connection.execute(leases.settle.native, {"numbers": numbers})).fetchall()
            expired += found or ()
        if len(due) < _CLAIMS_TOGETHER:
            return expired
        number, after_lease = due[-1]
        after = (after_lease, number)


async def _server_is_up(connection: psycopg.AsyncConnection[Any], seconds: float) -> bool:
    """Tell whether the server has run for so long: then everybody could have renewed their leases."""
    statement = "SELECT clock_timestamp() - pg_postmaster_start_time() >= make_interval(secs => %s)"
    [(is_up,)] = await (await connection.execute(statement, [seconds])).fetchall()
    return bool(is_up)


async def expire(connection: psycopg.AsyncConnection[Any], leases: LeaseStatements, nodes: Sequence[str]) -> int:
    """End the leases of dead nodes; returns how many jobs had one."""
    parameters = {"nodes": text_array(nodes)}
    async with connection.transaction():
        cursor = await connection.execute(leases.expire_jobs.native, parameters)
        await connection.execute(leases.expire_claims.native, parameters)
    return cursor.rowcount


async def _candidates(
    connection: psycopg.AsyncConnection[Any],
    sql: Statements,
    leases: LeaseStatements,
    claims: Collection[int],
    limit: int,
    only_nodes: Sequence[str] | None,
) -> list[Candidate]:
    rows: list[tuple[Any, ...]] = []
    if claims:
        nodes = {"everybody": only_nodes is None, "nodes": text_array(only_nodes or ())}
        parameters = {"numbers": plain_array(map(str, claims)), "limit": limit, **nodes}
        rows += await (await connection.execute(leases.expired.native, parameters)).fetchall()
    if limit > len(rows) and only_nodes is None:
        cursor = await connection.execute(sql.overdue.native, {"limit": limit - len(rows)})
        rows += await cursor.fetchall()
    return [Candidate._make(row)._replace(status=Status(row[3])) for row in rows]


def _decide(job: Candidate, policy: Policy, retry_delay_seconds: Callable[[int], float]) -> Transition | None:
    try:
        if job.status is Status.RUNNING:
            return decide(job, LeaseExpire(retry_delay_seconds(job.attempt)), policy, job.now)
        return decide(job, DeadlinePass(), policy, job.now)
    except (CallboardError, ArithmeticError, ValueError):
        logger.exception("job %s cannot be rescued; the sweep goes on without it", job.id)
        return None


async def _write(
    connection: psycopg.AsyncConnection[Any], writer: TransitionWriter, transitions: list[Transition]
) -> set[UUID]:
    """Write all at once; where a row makes that fail, write each in a savepoint of its own and leave that row out."""
    try:
        async with connection.transaction():
            return {answer.job_id for answer in await writer.write(transitions) if isinstance(answer, Applied)}
    except (psycopg.IntegrityError, psycopg.DataError, psycopg.InternalError, psycopg.ProgrammingError) as error:
        if is_passing(error):
            raise
        if len(transitions) == 1:
            logger.error("job %s cannot be rescued: %s", transitions[0].job_id, error)
            return set()
    written: set[UUID] = set()
    for transition in transitions:
        written |= await _write(connection, writer, [transition])
    return written
