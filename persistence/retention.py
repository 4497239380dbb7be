"""Deleting what need not be kept any longer: jobs and batches by steps, the history by whole partitions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import errors as pg
from psycopg import sql

from callboard.actors.jobs.retention import Partition, Pruned, Retention, droppable, newest_id_before

from .fence import require_term
from .statements import compile_statement, names

logger = logging.getLogger(__name__)

_Native = psycopg.AsyncConnection[Any]

_STEP_ROWS: Final = 2_000
"""So many rows are looked at in one transaction: it holds nobody up for long."""
_STEP_BATCHES: Final = 10
"""Likewise; a batch has up to 100,000 items."""
_NO_ID: Final = UUID(int=0)

# Another node's turn: one at a time is enough. The lock ends with the transaction, hence with its node.
_TURN = """
SELECT pg_try_advisory_xact_lock(hashtextextended('callboard retention {schema}', 0)), now()
"""

# Along the primary key, which is the order of age: no index of its own, and what is kept is passed once a sweep.
# A child of a parent that has not ended stays: the parent, run again, looks for it.
_DELETE_JOBS = """
WITH seen AS MATERIALIZED (
    SELECT id, status, finished_at, parent_id, callback_url FROM {jobs}
    WHERE id > CAST(:after AS uuid) AND id < CAST(:before AS uuid)
    ORDER BY id LIMIT CAST(:rows AS integer)
), deleted AS (
    DELETE FROM {jobs} AS job USING seen
    WHERE job.id = seen.id AND job.status = seen.status
        AND seen.finished_at < now() - interval '1 second' * CASE
            WHEN seen.status = 'completed' THEN CAST(:completed AS float8)
            WHEN seen.status IN ('failed', 'cancelled') THEN CAST(:failed AS float8) END
        AND NOT EXISTS (SELECT FROM {jobs} AS parent
                        WHERE parent.id = seen.parent_id AND parent.status IN ({unfinished}))
        AND (seen.callback_url IS NULL OR NOT EXISTS (
            SELECT FROM {callbacks} AS callback WHERE callback.job_id = seen.id AND callback.state = 'pending'))
    RETURNING job.id
)
SELECT (SELECT count(*) FROM deleted), count(*), (SELECT id FROM seen ORDER BY id DESC LIMIT 1) FROM seen
"""

_DELETE_RESULTS = """
WITH expired AS MATERIALIZED (
    SELECT id FROM {jobs}
    WHERE result_expires_at < now()
    ORDER BY result_expires_at LIMIT CAST(:rows AS integer)
    FOR NO KEY UPDATE SKIP LOCKED
), deleted AS (
    UPDATE {jobs} AS job SET result = NULL, result_expires_at = NULL
    WHERE job.id = ANY(ARRAY(SELECT id FROM expired)) RETURNING id
)
SELECT count(*) FROM deleted
"""

# What an unfinished job has asked for stays: the job, run again, asks the same, and nobody pays for that twice.
_DELETE_BATCHES = """
WITH ended AS MATERIALIZED (
    SELECT id FROM {batches}
    WHERE id < CAST(:before AS uuid) AND finished_at < now() - CAST(:seconds AS float8) * interval '1 second'
        AND NOT EXISTS (
            SELECT FROM {llm_requests} AS request JOIN {jobs} AS job ON job.id = request.job_id
            WHERE request.batch_id = {batches}.id AND job.status IN ({unfinished}))
    ORDER BY id LIMIT CAST(:rows AS integer)
), deleted AS (
    DELETE FROM {batches} WHERE id = ANY(ARRAY(SELECT id FROM ended)) RETURNING id
)
SELECT count(*) FROM deleted
"""

# A partition's bound is text only: FOR VALUES FROM ('...') TO ('...').
_PARTITIONS = """
SELECT part.relname, CAST(substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''([^'']+)') AS timestamptz)
FROM pg_inherits JOIN pg_class AS part ON part.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = CAST('{history}' AS regclass)
    AND pg_get_expr(part.relpartbound, part.oid) <> 'DEFAULT'
"""

_OLDEST_UNFINISHED = """
SELECT created_at FROM {jobs} WHERE status IN ({unfinished}) ORDER BY id LIMIT 1
"""


class RetentionStatements:
    """The statements for one schema.

    Args:
        schema: the schema of the tables; a valid identifier.
    """

    def __init__(self, schema: str) -> None:
        compiled = partial(compile_statement, names=names(schema))
        self.schema = schema
        self.turn = compiled(_TURN)
        self.delete_jobs = compiled(_DELETE_JOBS)
        self.delete_results = compiled(_DELETE_RESULTS)
        self.delete_batches = compiled(_DELETE_BATCHES)
        self.partitions = compiled(_PARTITIONS)
        self.oldest_unfinished = compiled(_OLDEST_UNFINISHED)


async def prune(connection: _Native, statements: RetentionStatements, retention: Retention, term: int | None) -> Pruned:
    """Delete what need not be kept, in as many short transactions as it takes; nothing where another node is at it.

    Raises:
        StaleTerm: the leader's term is over. The transactions before are committed.
    """
    delete_jobs = partial(_delete_jobs, retention=retention, cursor=[_NO_ID])
    jobs = await _until_done(connection, statements, delete_jobs, term)
    results = await _until_done(connection, statements, _delete_results, term)
    delete_batches = partial(_delete_batches, seconds=retention.batches_seconds)
    batches = await _until_done(connection, statements, delete_batches, term)
    partitions = 0
    if retention.history_seconds is not None:
        for name in await _droppable(connection, statements, retention.history_seconds):
            partitions += await _drop(connection, statements.schema, name, term)
    return Pruned(jobs, results, partitions, batches)


_Step = Callable[[_Native, RetentionStatements, Any], Awaitable[tuple[int, bool]]]
"""Deletes some, and tells how many and whether there may be more."""


async def _until_done(connection: _Native, statements: RetentionStatements, step: _Step, term: int | None) -> int:
    deleted, more = 0, True
    while more:
        async with connection.transaction():
            if term is not None:
                await require_term(connection, statements.schema, term)
            cursor = await connection.execute(statements.turn.native)
            [(ours, now)] = await cursor.fetchall()
            if not ours:
                return deleted
            count, more = await step(connection, statements, now)
        deleted += count
    return deleted


async def _delete_jobs(
    connection: _Native, statements: RetentionStatements, now: Any, *, retention: Retention, cursor: list[UUID]
) -> tuple[int, bool]:
    shortest = retention.shortest_seconds
    if shortest is None:
        return 0, False
    parameters = {
        "after": cursor[0],
        "before": newest_id_before(now - timedelta(seconds=shortest)),
        "rows": _STEP_ROWS,
        "completed": retention.completed_seconds,
        "failed": retention.failed_seconds,
    }
    answer = await connection.execute(statements.delete_jobs.native, parameters)
    [(deleted, seen, last)] = await answer.fetchall()
    cursor[0] = last or cursor[0]
    return deleted, seen == _STEP_ROWS


async def _delete_results(connection: _Native, statements: RetentionStatements, _now: Any) -> tuple[int, bool]:
    answer = await connection.execute(statements.delete_results.native, {"rows": _STEP_ROWS})
    [(deleted,)] = await answer.fetchall()
    return deleted, deleted == _STEP_ROWS


async def _delete_batches(
    connection: _Native, statements: RetentionStatements, now: Any, *, seconds: float | None
) -> tuple[int, bool]:
    if seconds is None:
        return 0, False
    parameters = {
        "before": newest_id_before(now - timedelta(seconds=seconds)),
        "seconds": seconds,
        "rows": _STEP_BATCHES,
    }
    answer = await connection.execute(statements.delete_batches.native, parameters)
    [(deleted,)] = await answer.fetchall()
    return deleted, deleted == _STEP_BATCHES


async def _droppable(connection: _Native, statements: RetentionStatements, history_seconds: float) -> list[str]:
    async with connection.transaction():
        [(ours, now)] = await (await connection.execute(statements.turn.native)).fetchall()
        if not ours:
            return []
        partitions = [
            Partition(*row) for row in await (await connection.execute(statements.partitions.native)).fetchall()
        ]
        cutoff = now - timedelta(seconds=history_seconds)
        if not droppable(partitions, cutoff, None):
            return []  # almost always: the question about jobs, which is dear, is asked once a week
        oldest = await (await connection.execute(statements.oldest_unfinished.native)).fetchone()
        return droppable(partitions, cutoff, oldest[0] if oldest else None)


async def _drop(connection: _Native, schema: str, name: str, term: int | None) -> int:
    """Drop a partition, unless somebody reads or writes the history for long: waiting would hold up everybody."""
    try:
        async with connection.transaction():
            if term is not None:
                await require_term(connection, schema, term)
            await connection.execute("SET LOCAL lock_timeout = '500ms'")
            await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(schema, name)))
    except pg.LockNotAvailable:
        logger.info("the history's partition %s is in use and stays until the next sweep", name)
        return 0
    logger.info("the history's partition %s was dropped: it is older than it need be kept", name)
    return 1
