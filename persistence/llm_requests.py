"""Requests of jobs to a model, in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg

from callboard.actors.batches.provider import BatchLimits
from callboard.actors.batches.requests import fitting
from callboard.actors.batches.state import ItemStatus
from callboard.actors.batches.types import BatchResult, NewBatch, NewItem, WaitingRequest, lost_reply
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import AttemptKey

from .batches import PostgresBatches
from .controls import Runner
from .families import require_running_attempt
from .literals import plain_array, text_array
from .statements import compile_statement, names

_Native = psycopg.AsyncConnection[Any]

# As in ``steps.py``: the look at the attempt and the insert are one, and the first request under a key stands.
_ASK: Final = """
WITH owner AS MATERIALIZED (
    SELECT id, status, token FROM {jobs} WHERE id = CAST(:job AS uuid) FOR SHARE
), asked AS (
    INSERT INTO {llm_requests} AS known (job_id, key, provider, params)
    SELECT id, CAST(:key AS text), CAST(:provider AS text), CAST(:params AS json) FROM owner
    WHERE status = 'running' AND token = CAST(:token AS bigint)
    ON CONFLICT (job_id, key) DO UPDATE SET provider = known.provider
    RETURNING batch_id, position
)
SELECT owner.status, owner.token, asked.batch_id, item.status, CAST(item.result AS text), CAST(item.error AS text)
FROM owner LEFT JOIN asked ON true
    LEFT JOIN {batch_items} AS item ON item.batch_id = asked.batch_id AND item.position = asked.position
"""

_WAITING: Final = """
SELECT request.job_id, request.key, request.provider, request.requested_at, request.resubmissions
FROM {llm_requests} AS request JOIN {jobs} AS job ON job.id = request.job_id
WHERE request.batch_id IS NULL AND job.status IN ({unfinished})
ORDER BY request.requested_at, request.job_id, request.key LIMIT CAST(:limit AS integer)
"""

_PROVIDERS: Final = """
SELECT DISTINCT request.provider FROM {llm_requests} AS request JOIN {jobs} AS job ON job.id = request.job_id
WHERE request.batch_id IS NULL AND job.status IN ({unfinished}) ORDER BY request.provider
"""

_TAKE: Final = """
SELECT request.job_id, request.key, CAST(request.params AS text)
FROM {llm_requests} AS request JOIN {jobs} AS job ON job.id = request.job_id
WHERE request.batch_id IS NULL AND request.provider = CAST(:provider AS text) AND job.status IN ({unfinished})
ORDER BY request.requested_at, request.job_id, request.key LIMIT CAST(:limit AS integer)
FOR NO KEY UPDATE OF request SKIP LOCKED
"""

_ASSIGN: Final = """
UPDATE {llm_requests} AS request SET batch_id = CAST(:batch AS uuid), position = taken.position
FROM unnest([positions integer], [ids uuid], [keys text]) AS taken (position, job_id, key)
WHERE request.job_id = taken.job_id AND request.key = taken.key
"""


class PostgresLlmRequests:
    """Implements ``LlmRequestStore``.

    Args:
        schema: of the tables.
        run: runs statements.
        batches: records the batches that requests are gathered into.
    """

    def __init__(self, schema: str, run: Runner, batches: PostgresBatches) -> None:
        compiled = partial(compile_statement, names=names(schema))
        self._run = run
        self._batches = batches
        self._ask = compiled(_ASK)
        self._waiting = compiled(_WAITING)
        self._providers = compiled(_PROVIDERS)
        self._take = compiled(_TAKE)
        self._assign = compiled(_ASSIGN)

    async def ask(self, attempt: AttemptKey, key: str, provider: str, params: str) -> BatchResult | None:
        """Record a request, the first under its key only; return its outcome, if there is one."""
        parameters = {
            "job": attempt.job_id,
            "token": attempt.token,
            "key": key,
            "provider": provider,
            "params": params,
        }

        async def body(connection: _Native) -> tuple[Any, ...] | None:
            return await (await connection.execute(self._ask.native, parameters)).fetchone()

        row = await self._run("ask_llm", body)
        status, token, batch_id, item_status, result, error = row or (None,) * 6
        actual = None if status is None else Status(status)
        require_running_attempt(attempt, actual, token, may="ask nothing")
        if batch_id is None or item_status == ItemStatus.PENDING:
            return None
        if item_status is None:
            return lost_reply(key, batch_id)
        return BatchResult(key, ItemStatus(item_status), _plain(result), _plain(error))

    async def waiting(self, *, limit: int) -> list[WaitingRequest]:
        """Read what is in no batch yet, the oldest first."""

        async def body(connection: _Native) -> list[WaitingRequest]:
            rows = await (await connection.execute(self._waiting.native, {"limit": limit})).fetchall()
            return [WaitingRequest(*row) for row in rows]

        return await self._run("waiting_llm_requests", body)

    async def providers(self) -> list[str]:
        """Return whom requests wait for."""

        async def body(connection: _Native) -> list[str]:
            return [name for (name,) in await (await connection.execute(self._providers.native)).fetchall()]

        return await self._run("llm_providers", body)

    async def gather(
        self,
        batch_id: UUID,
        provider: str,
        endpoint: str | None,
        limits: BatchLimits,
        *,
        grace_seconds: float,
        actor: str,
        term: int | None = None,
    ) -> int:
        """Record a batch of the requests that have waited longest; return how many."""

        async def body(connection: _Native) -> int:
            async with connection.transaction():
                await self._batches.require(connection, term)
                parameters = {"provider": provider, "limit": limits.max_requests}
                rows = await (await connection.execute(self._take.native, parameters)).fetchall()
                if not rows:
                    return 0
                waiting = [
                    NewItem(position, f"{job_id}/{key}", params) for position, (job_id, key, params) in enumerate(rows)
                ]
                items = fitting(waiting, limits)
                batch = NewBatch(batch_id, provider, endpoint, tuple(items))
                await self._batches.record_in(connection, batch, grace_seconds=grace_seconds, actor=actor)
                await connection.execute(self._assign.native, _assignment(batch_id, rows[: len(items)]))
                return len(items)

        return await self._run("gather_llm_requests", body)


def _assignment(batch_id: UUID, rows: Sequence[tuple[Any, ...]]) -> dict[str, object]:
    return {
        "batch": batch_id,
        "positions": plain_array(map(str, range(len(rows)))),
        "ids": plain_array([job_id.hex for job_id, _, _ in rows]),
        "keys": text_array([key for _, key, _ in rows]),
    }


def _plain(text: str | None) -> Any:
    return None if text is None else json.loads(text)
