"""What the same server does with bare psycopg: the other half of every ratio."""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg

from .jobs import QUEUE

BATCH: Final = 800
"""Jobs at a time: as many as a claim of Callboard takes by default."""

_CLAIM: Final = """
WITH step AS MATERIALIZED (SELECT nextval('callboard.history_numbers') AS number), picked AS MATERIALIZED (
    SELECT id FROM callboard.jobs
    WHERE queue = %(queue)s AND turn IS NOT NULL AND concurrency_key IS NULL
    ORDER BY turn, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE callboard.jobs AS job
    SET status = 'running', turn = NULL, token = token + 1, attempt = attempt + 1, transitions = transitions + 1,
        newest_history = (SELECT number FROM step), older_history = newest_history,
        started_at = now(), node = 'bare', lease_expires_at = now() + interval '30 s'
    WHERE id = ANY(ARRAY(SELECT id FROM picked)) RETURNING id, transitions, attempt, older_history, token
), recorded AS (
    INSERT INTO callboard.history_batches
        (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older, lease_expires_at)
    SELECT (SELECT number FROM step), 'pending', 'running', 'claimed', 'bare',
           array_agg(id), array_agg(transitions), array_agg(attempt), array_agg(older_history), now() + interval '30 s'
    FROM claimed HAVING count(*) > 0
    RETURNING number, at, lease_expires_at
), watched AS (
    INSERT INTO callboard.claims (number, claimed_at, lease_expires_at, node)
    SELECT number, at, lease_expires_at, 'bare' FROM recorded
)
SELECT id, token FROM claimed
"""

# The sub-selects keep the planner from reading the whole table for 800 ids: without them this baseline would be slow.
_FINISH: Final = """
WITH step AS MATERIALIZED (SELECT nextval('callboard.history_numbers') AS number), change AS (
    SELECT id, token, 'running' AS source
    FROM unnest((SELECT %(ids)s::uuid[]), (SELECT %(tokens)s::bigint[])) AS change (id, token)
),
written AS (
    UPDATE callboard.jobs AS job
    SET status = 'completed', transitions = transitions + 1, finished_at = now(), stop_reason = 'succeeded',
        newest_history = (SELECT number FROM step), older_history = newest_history, lease_expires_at = NULL
    FROM change WHERE job.id = change.id AND job.token = change.token AND job.status = change.source
    RETURNING job.id, job.transitions, job.attempt, job.older_history
)
INSERT INTO callboard.history_batches
    (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older)
SELECT (SELECT number FROM step), 'running', 'completed', 'succeeded', 'bare',
       array_agg(id), array_agg(transitions), array_agg(attempt), array_agg(older_history)
FROM written HAVING count(*) > 0
"""


def drain(url: str) -> float:
    """Claim and finish everything, one connection, two statements a batch, history written; return the seconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        begin = time.perf_counter()
        while rows := connection.execute(_CLAIM, {"queue": QUEUE, "limit": BATCH}, binary=True).fetchall():
            ids, tokens = zip(*rows, strict=True)
            connection.execute(_FINISH, {"ids": list(ids), "tokens": list(tokens)})
        return time.perf_counter() - begin


def copy(url: str, jobs: int) -> float:
    """COPY the rows that so many spawns write, jobs and history, into the same tables; return the seconds.

    The rows are made before the clock starts: this is what the server alone can take.
    """
    ids = sorted(uuid4() for _ in range(jobs))
    rows = "".join(_row(number, job_id) for number, job_id in enumerate(ids))
    spawned = "".join(_record(number, ids[first : first + BATCH]) for number, first in enumerate(range(0, jobs, BATCH)))
    with psycopg.connect(url) as connection:
        begin = time.perf_counter()
        _copy(connection, "callboard.jobs (id, kind, queue, arguments, status, max_attempts, turn)", rows)
        _copy(
            connection,
            "callboard.history_batches (number, to_status, reason, actor, job_ids, sequences, attempts, older)",
            spawned,
        )
        connection.commit()
        return time.perf_counter() - begin


def commits(url: str, count: int) -> list[float]:
    """Insert one small row and commit, so many times; return the seconds of each: the floor of any durable write."""
    seconds = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare (id uuid PRIMARY KEY)")
        for _ in range(count):
            job_id = uuid4()
            begin = time.perf_counter()
            connection.execute("INSERT INTO bare VALUES (%s)", (job_id,))
            seconds.append(time.perf_counter() - begin)
    return seconds


def _row(number: int, job_id: UUID) -> str:
    return f'{job_id}\tbench.nothing\t{QUEUE}\t{{"number":{number}}}\tpending\t3\tnow\n'


def _record(number: int, ids: list[UUID]) -> str:
    def same(value: str) -> str:
        return "{" + ",".join([value] * len(ids)) + "}"

    job_ids = "{" + ",".join(map(str, ids)) + "}"
    return f"{number}\tpending\tspawned\tbare\t{job_ids}\t{same('1')}\t{same('0')}\t{same('NULL')}\n"


def _copy(connection: psycopg.Connection[Any], target: str, rows: str) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
        copy.write(rows)
