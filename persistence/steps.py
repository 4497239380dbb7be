"""Steps of jobs in PostgreSQL."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import AttemptKey

from .controls import Runner
from .families import require_running_attempt
from .statements import compile_statement, names

_Native = psycopg.AsyncConnection[Any]

_READ = """
SELECT CAST(value AS text) FROM {job_steps} WHERE job_id = CAST(:job AS uuid) AND key = CAST(:key AS text)
"""

# The lock makes the look at the attempt and the insert one: a rescue or a cancel comes before both, or after both. The
# update changes nothing; it is there so that the row of before is returned.
_RECORD = """
WITH owner AS MATERIALIZED (
    SELECT id, status, token FROM {jobs} WHERE id = CAST(:job AS uuid) FOR SHARE
), recorded AS (
    INSERT INTO {job_steps} AS known (job_id, key, value)
    SELECT id, CAST(:key AS text), CAST(:value AS json) FROM owner
    WHERE status = 'running' AND token = CAST(:token AS bigint)
    ON CONFLICT (job_id, key) DO UPDATE SET value = known.value
    RETURNING value
)
SELECT status, token, CAST((SELECT value FROM recorded) AS text) FROM owner
"""


class PostgresSteps:
    """Implements ``StepStore``.

    Args:
        schema: of the tables.
        run: runs statements.
    """

    def __init__(self, schema: str, run: Runner) -> None:
        compiled = partial(compile_statement, names=names(schema))
        self._run = run
        self._read = compiled(_READ)
        self._record = compiled(_RECORD)

    async def read(self, job_id: UUID, key: str) -> str | None:
        """Return what a step of a job gave."""
        row = await self._one("read_step", self._read.native, {"job": job_id, "key": key})
        return None if row is None else str(row[0])

    async def record(self, attempt: AttemptKey, key: str, value: str) -> str:
        """Keep what a step gave; return what is kept, which is what came first."""
        parameters = {"job": attempt.job_id, "token": attempt.token, "key": key, "value": value}
        row = await self._one("record_step", self._record.native, parameters)
        status, token, kept = (None, None, None) if row is None else row
        require_running_attempt(attempt, None if status is None else Status(status), token, may="record no step")
        return str(kept)

    async def _one(self, operation: str, statement: bytes, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        async def body(connection: _Native) -> tuple[Any, ...] | None:
            return await (await connection.execute(statement, parameters)).fetchone()

        return await self._run(operation, body)
