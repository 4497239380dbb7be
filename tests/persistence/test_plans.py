"""The plans of the hot statements in a table of a million jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect

from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import AttemptKey, JobFilter, QueueDemand
from callboard.persistence.claim_marks import ClaimMarks
from callboard.persistence.completing import completion_columns
from callboard.persistence.lease_statements import LeaseStatements
from callboard.persistence.literals import plain_array
from callboard.persistence.reading import select_jobs
from callboard.persistence.spawning import insert_columns
from callboard.persistence.statements import Statement, Statements
from callboard.persistence.writing import columns, progress_columns, renewal
from tests.contract.support import new_job

Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.slow

JOBS = 1_000_000
ENDED = 900_000
RUNNING = range(ENDED, ENDED + 10_000)
BATCH = 500
RARE = 100_000

# Ids that grow, as those of real jobs do. A tenth of the running ones have lost their lease; a third of those that wait
# do so for their time. One in ten has a tag and metadata, and one in a hundred thousand a rare tag.
_JOBS = f"""
INSERT INTO callboard.jobs (id, kind, queue, arguments, max_attempts, status, run_at, token, attempt, node,
                            lease_expires_at, finished_at, newest_history, transitions, turn, delayed,
                            tags, metadata)
SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), 'kind', 'busy', '{{}}', 3,
       CASE WHEN n < {RUNNING.start} THEN 'completed' WHEN n < {RUNNING.stop} THEN 'running' ELSE 'pending' END,
       CASE WHEN n >= {RUNNING.stop} AND n % 3 = 0 THEN now() + interval '1 hour' ELSE now() - interval '1 hour' END,
       1, 1, 'node',
       CASE WHEN n >= {RUNNING.start} AND n < {RUNNING.stop}
            THEN now() + CASE WHEN n % 10 = 0 THEN interval '-1 s' ELSE interval '1 hour' END END,
       CASE WHEN n < {RUNNING.start} THEN now() END, n / 1000, 1,
       CASE WHEN n >= {RUNNING.stop} AND n % 3 > 0 THEN now() - interval '1 hour' + n % 9 * interval '1 minute' END,
       n >= {RUNNING.stop} AND n % 3 = 0,
       CASE WHEN n % {RARE} = 0 THEN CAST('{{usual,rare}}' AS text[]) WHEN n % 10 = 0 THEN '{{usual}}' END,
       CASE WHEN n % 10 = 0 THEN json_build_object('tenant', n % {RARE}, 'plan', 'free') END
FROM generate_series(0, {JOBS - 1}) AS n
"""

_CLAIMS = """
INSERT INTO callboard.claims (number, claimed_at, lease_expires_at, node, job_ids)
SELECT newest_history, now(), min(lease_expires_at), 'node', array_agg(id)
FROM callboard.jobs WHERE status = 'running' GROUP BY newest_history
"""

_HISTORY = f"""
INSERT INTO callboard.history_batches (number, to_status, reason, actor, job_ids, sequences, attempts, older)
SELECT batch, 'pending', 'spawned', 'test', ids, array_fill(1, ARRAY[1000]),
       array_fill(CAST(0 AS smallint), ARRAY[1000]), array_fill(CAST(NULL AS bigint), ARRAY[1000])
FROM generate_series(0, {JOBS // 1000 - 1}) AS batch,
     LATERAL (SELECT array_agg(CAST(lpad(to_hex(batch * 1000 + place), 32, '0') AS uuid)) AS ids
              FROM generate_series(0, 999) AS place) AS jobs
"""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url, autocommit=True, options="-c jit=off") as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(_JOBS.encode())
        connection.execute(_HISTORY.encode())
        connection.execute(_CLAIMS.encode())
        connection.execute("VACUUM ANALYZE callboard.jobs, callboard.history_batches, callboard.claims")
        yield connection


def explained(connection: Connection, statement: bytes, parameters: Mapping[str, object]) -> dict[str, Any]:
    with connection.transaction(force_rollback=True):
        cursor = connection.execute(b"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + statement, parameters)
        [([explanation],)] = cursor.fetchall()
    plan: dict[str, Any] = explanation["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_read(plan: dict[str, Any]) -> float:
    """How many rows of ``jobs`` were looked at, those that a filter threw away among them."""
    return sum(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in nodes(plan)
        if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]
    )


def claim_parameters(*queues: str) -> dict[str, object]:
    demands = [QueueDemand(queue, BATCH) for queue in queues]
    limits = plain_array([str(BATCH)] * len(queues))
    return {"queues": plain_array(queues), "limits": limits, "node": "n", "lease": 60.0, **ClaimMarks().begin(demands)}


def test_no_hot_statement_reads_more_than_its_jobs(connection: Connection) -> None:
    sql, leases = Statements("callboard"), LeaseStatements("callboard")
    claims = {"numbers": f"{{{RUNNING.start // 1000}}}"}
    attempts = [AttemptKey(UUID(int=number), 1) for number in RUNNING[:BATCH]]
    ids = {"ids": plain_array([attempt.job_id.hex for attempt in attempts])}
    ends = [Transition(key.job_id, Status.RUNNING, Status.COMPLETED, 1, Reason.SUCCEEDED) for key in attempts]
    statements: dict[str, tuple[Statement, Mapping[str, object]]] = {
        "insert": (sql.insert, insert_columns([new_job() for _ in range(BATCH)]) | {"actor": "test"}),
        "claim": (sql.claim, claim_parameters("busy", "idle")),
        "claim of nothing": (sql.claim, claim_parameters("idle")),
        "promote": (sql.promote, {"queues": "{busy,idle}", "limit": BATCH}),
        "apply": (sql.apply, columns(ends, "node:here")),
        "complete": (sql.complete, completion_columns(ends, "node:here")),
        "renew": (leases.renew, renewal(attempts, 60.0)),
        "progress": (sql.progress, progress_columns({key: {"done": 1} for key in attempts})),
        "actual": (sql.actual, ids),
        "lock": (sql.lock_jobs, ids),
        "share": (sql.share_parents, ids),
        "children": (sql.children_to_cancel, ids),
        "wake": (sql.wake_parents, ids),
        "due": (leases.due, {"after": "-infinity", "number": 0, "limit": BATCH}),
        "settle": (leases.settle, claims),
        "expired": (leases.expired, claims | {"limit": BATCH, "everybody": True, "nodes": "{}"}),
        "overdue": (sql.overdue, {"limit": BATCH}),
    }
    for name, (statement, parameters) in statements.items():
        plan = explained(connection, statement.native, parameters)
        tables = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert "jobs" not in tables, f"{name} reads all jobs: {plan}"
        # Twice: where rows are found (and locked), and where they are changed. Of rows that a filter throws away, plans
        # show a rounded average.
        assert rows_read(plan) <= 2.2 * BATCH, f"{name} reads {rows_read(plan)} rows for {BATCH} jobs: {plan}"

    # A batch of a thousand is some twenty pages long; all of them are 20,000.
    history = explained(connection, b"SELECT * FROM callboard.history_of(%(id)s)", {"id": UUID(int=ENDED // 2)})
    assert history["Actual Rows"] == 1
    assert history["Shared Hit Blocks"] + history["Shared Read Blocks"] < 500


SEARCHES = (
    JobFilter(tags=("rare",)),
    JobFilter(tags=("usual", "rare")),
    JobFilter(metadata={"tenant": 10}),
    JobFilter(metadata={"tenant": 10, "plan": "free"}),
    JobFilter(metadata={"tenant": 0}, tags=("rare",), statuses=(Status.COMPLETED,)),
)


def test_searches_by_tag_and_metadata_read_what_they_find(connection: Connection) -> None:
    connection.execute("SET search_path = callboard")
    for where in SEARCHES:
        compiled = select_jobs("callboard", where, limit=50, before=None).compile(
            dialect=psycopg_dialect.dialect(), compile_kwargs={"render_postcompile": True}
        )
        plan = explained(connection, str(compiled).encode(), compiled.params)
        assert 9 <= plan["Actual Rows"] <= JOBS // RARE, where
        assert rows_read(plan) <= JOBS // RARE, f"{where}: {plan}"
        tables = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert "jobs" not in tables, f"{where}: {plan}"
