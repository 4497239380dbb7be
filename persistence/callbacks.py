"""Callbacks in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from callboard.actors.callbacks.attempts import Attempt, CallbackState, Verdict
from callboard.actors.callbacks.types import CallbackRecord, DueCallback

from .controls import Runner
from .literals import plain_array
from .statements import compile_statement, names

_Native = psycopg.AsyncConnection[Any]

# While it is being delivered, the time of the next attempt is the end of the lease.
_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT job_id FROM {callbacks} WHERE state = 'pending' AND next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT CAST(:limit AS integer) FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE {callbacks} AS callback
    SET attempts = callback.attempts + 1, token = callback.token + 1,
        next_attempt_at = now() + CAST(:lease AS float8) * interval '1 second'
    WHERE callback.job_id = ANY(ARRAY(SELECT job_id FROM due))
    RETURNING job_id, token, attempts
)
SELECT claimed.job_id, claimed.token, claimed.attempts, job.callback_url, job.kind, job.queue, job.status,
       job.stop_reason, job.attempt, job.created_at, job.finished_at, CAST(job.metadata AS text)
FROM claimed JOIN {jobs} AS job ON job.id = claimed.job_id
"""

_RECORD = """
UPDATE {callbacks}
SET state = CAST(:state AS text), next_attempt_at = now() + CAST(:delay AS float8) * interval '1 second',
    sent_at = CASE WHEN CAST(:sent AS boolean) THEN now() ELSE sent_at END,
    status_code = CAST(:code AS smallint), error = CAST(:error AS text)
WHERE job_id = CAST(:job AS uuid) AND token = CAST(:token AS bigint) AND state = 'pending'
RETURNING job_id
"""

_PUT_OFF = """
UPDATE {callbacks} AS callback
SET attempts = callback.attempts - 1, next_attempt_at = now() + later.seconds * interval '1 second'
FROM unnest([ids uuid], [tokens bigint], [seconds float8]) AS later (job_id, token, seconds)
WHERE callback.job_id = later.job_id AND callback.token = later.token AND callback.state = 'pending'
RETURNING callback.job_id
"""

_LIST = """
SELECT callback.job_id, job.callback_url, callback.state, callback.attempts,
       CASE WHEN callback.state = 'pending' THEN callback.next_attempt_at END,
       callback.sent_at, callback.status_code, callback.error
FROM {callbacks} AS callback JOIN {jobs} AS job ON job.id = callback.job_id
WHERE (CAST(:state AS text) IS NULL OR callback.state = CAST(:state AS text))
ORDER BY callback.job_id DESC LIMIT CAST(:limit AS integer)
"""

_REPLAY = """
WITH replayed AS (
    UPDATE {callbacks} SET state = 'pending', attempts = 0, token = token + 1, next_attempt_at = now()
    WHERE job_id = ANY(CAST([ids uuid] AS uuid[])) AND state <> 'pending'
    RETURNING job_id
)
SELECT job_id, (SELECT count(pg_notify('{channel}', 'callback'))) FROM replayed
"""


class PostgresCallbacks:
    """Implements ``CallbackStore``.

    Args:
        schema: of the tables.
        run: runs statements.
    """

    def __init__(self, schema: str, run: Runner) -> None:
        compiled = partial(compile_statement, names=names(schema))
        self._run = run
        self._claim = compiled(_CLAIM)
        self._record = compiled(_RECORD)
        self._put_off = compiled(_PUT_OFF)
        self._list = compiled(_LIST)
        self._replay = compiled(_REPLAY)

    async def claim(self, limit: int, *, lease_seconds: float) -> list[DueCallback]:
        """Take callbacks whose time has come."""
        rows = await self._rows("claim_callbacks", self._claim.native, {"limit": limit, "lease": lease_seconds})
        return [DueCallback(*row) for row in rows]

    async def record(self, callback: DueCallback, attempt: Attempt, verdict: Verdict) -> bool:
        """Write down what came of an attempt; False if another one has begun meanwhile."""
        values = {
            "job": callback.job_id,
            "token": callback.token,
            "state": verdict.state.value,
            "delay": verdict.delay_seconds,
            "sent": not attempt.blocked,
            "code": attempt.status_code,
            "error": attempt.error,
        }
        return bool(await self._rows("record_callback", self._record.native, values))

    async def put_off(self, callbacks: Sequence[tuple[DueCallback, float]]) -> None:
        """Give back callbacks that were claimed and not attempted."""
        values = {
            "ids": plain_array([callback.job_id.hex for callback, _ in callbacks]),
            "tokens": plain_array([str(callback.token) for callback, _ in callbacks]),
            "seconds": plain_array([repr(seconds) for _, seconds in callbacks]),
        }
        await self._rows("put_off_callbacks", self._put_off.native, values)

    async def read(self, state: CallbackState | None, *, limit: int) -> list[CallbackRecord]:
        """Return callbacks, those of the newest jobs first."""
        values = {"state": None if state is None else state.value, "limit": limit}
        rows = await self._rows("callbacks", self._list.native, values)
        return [CallbackRecord(*row)._replace(state=CallbackState(row[2])) for row in rows]

    async def replay(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Begin anew with those that are delivered or dead; returns which."""
        ids = {"ids": plain_array(sorted({job_id.hex for job_id in job_ids}))}
        return [job_id for job_id, _ in await self._rows("replay_callbacks", self._replay.native, ids)]

    async def _rows(self, operation: str, statement: bytes, values: dict[str, Any]) -> Sequence[Any]:
        async def body(connection: _Native) -> Sequence[Any]:
            return await (await connection.execute(statement, values)).fetchall()

        return await self._run(operation, body)
