"""Spawning unique jobs whose key spans more, or less, than the unfinished ones, or that change the one that has it.

The unique index knows one rule: one unfinished job for a kind and key. Every other rule is kept by a lock on the kind
and key, held to the end of the transaction: whoever comes second sees what the first one wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

from callboard.actors.errors import DuplicateJob
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.turn import DEFAULT_AGING_SECONDS
from callboard.actors.jobs.types import AttemptKey, NewJob, Spawned
from callboard.actors.jobs.uniqueness import Resolution, resolve

from . import spawning
from .literals import plain_array
from .spawning import Execute
from .statements import Statements, compile_statement, names

_LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended('callboard unique {schema} ' || :kind || ' ' || :key, 0))
"""

_HOLDER = """
SELECT id, status, token FROM {jobs}
WHERE kind = :kind AND unique_key = :key AND unique_statuses IS NOT NULL
    AND status = ANY(CAST([statuses text] AS text[]))
    AND (CAST(:seconds AS float8) IS NULL OR created_at > now() - CAST(:seconds AS float8) * interval '1 second')
ORDER BY created_at DESC LIMIT 1
FOR NO KEY UPDATE
"""

_REPLACE = """
WITH changed AS (
    UPDATE {jobs} AS job
    SET arguments = CAST(:arguments AS json), queue = :queue, priority = CAST(:priority AS smallint),
        run_at = due.at, delayed = job.status = 'pending' AND job.waiting_on IS NULL AND due.at > now(),
        turn = CASE WHEN job.status = 'pending' AND job.waiting_on IS NULL AND due.at <= now()
                    THEN due.at + CAST(:priority AS smallint) * {aging} END,
        max_attempts = CAST(:max_attempts AS smallint), timeout_seconds = CAST(:timeout AS float8),
        deadline = now() + CAST(:deadline AS float8) * interval '1 second', owner = CAST(:owner AS text),
        tags = (CAST([tags text] AS text[])), metadata = CAST(:metadata AS json),
        concurrency_key = CAST(:concurrency_key AS text), concurrency_limit = CAST(:concurrency_limit AS integer),
        unique_statuses = (CAST([statuses text] AS text[])), result_ttl_seconds = CAST(:result_ttl AS float8),
        callback_url = CAST(:callback_url AS text)
    FROM (SELECT coalesce(CAST(:run_at AS timestamptz),
                          now() + CAST(:delay AS float8) * interval '1 second') AS at) AS due
    WHERE id = CAST(:id AS uuid)
    RETURNING queue, status, run_at
)
SELECT pg_notify('{channel}', 'runnable:' || queue) FROM changed WHERE status = 'pending' AND run_at <= now()
"""

_RESCHEDULE = """
WITH changed AS (
    UPDATE {jobs} AS job
    SET run_at = due.at, delayed = job.status = 'pending' AND job.waiting_on IS NULL AND due.at > now(),
        turn = CASE WHEN job.status = 'pending' AND job.waiting_on IS NULL AND due.at <= now()
                    THEN due.at + job.priority * {aging} END
    FROM (SELECT coalesce(CAST(:run_at AS timestamptz),
                          now() + CAST(:delay AS float8) * interval '1 second') AS at) AS due
    WHERE id = CAST(:id AS uuid)
    RETURNING queue, status, run_at
)
SELECT pg_notify('{channel}', 'runnable:' || queue) FROM changed WHERE status = 'pending' AND run_at <= now()
"""

_KNOWN: Final = """
SELECT id FROM {jobs} WHERE id = CAST(:id AS uuid)
"""


class UniqueStatements:
    """The statements for one schema.

    Args:
        schema: the schema of the tables; a valid identifier.
        aging_seconds: what a step of priority is worth.
    """

    def __init__(self, schema: str, aging_seconds: float = DEFAULT_AGING_SECONDS) -> None:
        compiled = partial(compile_statement, names=names(schema, aging_seconds))
        self.lock = compiled(_LOCK)
        self.holder = compiled(_HOLDER)
        self.replace = compiled(_REPLACE)
        self.reschedule = compiled(_RESCHEDULE)
        self.known = compiled(_KNOWN)


def spans(jobs: Sequence[NewJob]) -> bool:
    """Tell whether there is a job here about whose key the unique index does not decide."""
    return any(job.unique_statuses is not None for job in jobs)


async def insert(
    execute: Execute,
    sql: Statements,
    unique: UniqueStatements,
    jobs: Sequence[NewJob],
    actor: str,
    parent: AttemptKey | None,
) -> list[Spawned]:
    """Insert jobs, in a transaction of the caller's: those with such keys one by one, the others together.

    Raises:
        DuplicateJob: another job holds the key of one that asks for this. The caller rolls back.
        StaleAttempt: as ``spawning.insert``.
    """
    answers: dict[int, Spawned] = {}
    plain = [place for place, job in enumerate(jobs) if job.unique_statuses is None]
    if plain:
        inserted = await spawning.insert(execute, sql, [jobs[place] for place in plain], actor, parent)
        answers.update(zip(plain, inserted, strict=True))
    spanning = [place for place, job in enumerate(jobs) if job.unique_statuses is not None]
    # In one order everywhere: two spawns that wait for each other's keys would deadlock.
    for place in sorted(spanning, key=lambda place: (jobs[place].kind, jobs[place].unique_key or "", place)):
        answers[place] = await _insert_one(execute, sql, unique, jobs[place], actor, parent)
    return [answers[place] for place in range(len(jobs))]


async def _insert_one(
    execute: Execute, sql: Statements, unique: UniqueStatements, job: NewJob, actor: str, parent: AttemptKey | None
) -> Spawned:
    key = {"kind": job.kind, "key": job.unique_key}
    await execute(unique.lock, key)
    if await execute(unique.known, {"id": job.id.hex}):  # a repeated call
        return Spawned(job.id, created=False)
    statuses = plain_array(job.unique_statuses or ())
    found = await execute(unique.holder, {**key, "statuses": statuses, "seconds": job.unique_seconds})
    if not found:
        [answer] = await spawning.insert(execute, sql, [job], actor, parent)
        return answer
    holder, status, token = UUID(str(found[0][0])), Status(found[0][1]), found[0][2]
    match resolve(status, token, job.on_conflict):
        case Resolution.REFUSE:
            raise DuplicateJob(holder, job.kind, job.unique_key or "", status)
        case Resolution.REPLACE:
            await execute(unique.replace, _replacement(job) | {"id": holder.hex})
        case Resolution.RESCHEDULE:
            await execute(unique.reschedule, {"id": holder.hex, "run_at": job.run_at, "delay": job.delay_seconds})
        case Resolution.KEEP:
            pass
    return Spawned(holder, created=False)


def _replacement(job: NewJob) -> dict[str, object]:
    return {
        "arguments": job.arguments,
        "queue": job.queue,
        "priority": job.priority,
        "run_at": job.run_at,
        "delay": job.delay_seconds,
        "max_attempts": job.max_attempts,
        "timeout": job.timeout_seconds,
        "deadline": job.deadline_seconds,
        "owner": job.owner,
        "tags": spawning.tags_array(job),
        "metadata": job.metadata,
        "concurrency_key": job.concurrency_key,
        "concurrency_limit": job.concurrency_limit,
        "statuses": plain_array(job.unique_statuses or ()),
        "result_ttl": job.result_ttl_seconds,
        "callback_url": job.callback_url,
    }
