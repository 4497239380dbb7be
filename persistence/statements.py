"""The hot statements, as SQL for one schema.

Each is one round trip over arrays, whatever the number of jobs. Arrays are passed as text (``literals.py``) and cast
here.

A statement that changes the status of jobs records it in the same command: all jobs that take the same edge for the
same reason make one row of the history. ``step`` has the number of those rows. A job's own row keeps its newest number
and the one before, which goes into the new row: so one job's history is found from number to number.

``[ids uuid]`` is short for ``(SELECT CAST(CAST(:ids AS text) AS uuid[]))``. Text, because spawns also run on callers'
connections, of any driver. The sub-select hides from the planner how long the array is: it then takes ten elements for
granted and looks jobs up by index. Knowing of 500, it would rather read a table of 50,000 jobs from end to end, because
it prices each look-up as a random read from disk; a batch's rows lie together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from callboard.actors.jobs.turn import DEFAULT_AGING_SECONDS

from .completing import COMPLETE
from .guards import UNFINISHED_SQL

# A fresh insert: `ON CONFLICT DO NOTHING` covers the id (a repeated call), the unique key and the child's place.
_INSERT = """
WITH step AS MATERIALIZED (
    SELECT nextval('{history_numbers}') AS number
), new AS (
    SELECT id, created.at, kind, queue, arguments, status, priority, max_attempts, timeout_seconds, unique_key, owner,
           CAST(tags AS text[]) AS tags, metadata, parent_id, child_key, child_index,
           concurrency_key, concurrency_limit, CAST(unique_statuses AS text[]) AS unique_statuses, result_ttl_seconds,
           callback_url,
           coalesce(run_at, created.at + delay_seconds * interval '1 second') AS run_at,
           created.at + deadline_seconds * interval '1 second' AS deadline
    FROM unnest([ids uuid], [kinds text], [queues text], [arguments json],
                [statuses text], [priorities smallint], [delays float8],
                [run_ats timestamptz], [max_attempts smallint], [timeouts float8],
                [deadlines float8], [unique_keys text], [owners text],
                [tags text], [metadata json], [parent_ids uuid],
                [child_keys text], [child_indexes integer], [concurrency_keys text],
                [concurrency_limits integer], [unique_statuses text], [result_ttls float8], [callback_urls text])
             AS job (id, kind, queue, arguments, status, priority, delay_seconds, run_at, max_attempts,
                     timeout_seconds, deadline_seconds, unique_key, owner, tags, metadata, parent_id, child_key,
                     child_index, concurrency_key, concurrency_limit, unique_statuses, result_ttl_seconds,
                     callback_url),
         LATERAL (SELECT now() AS at) AS created
), inserted AS (
    INSERT INTO {jobs} (id, created_at, kind, queue, arguments, status, priority, max_attempts, timeout_seconds,
                        unique_key, owner, tags, metadata, parent_id, child_key, child_index, run_at, deadline,
                        newest_history, concurrency_key, concurrency_limit, unique_statuses, result_ttl_seconds,
                        callback_url, turn, delayed)
    SELECT id, at, kind, queue, arguments, status, priority, max_attempts, timeout_seconds,
           unique_key, owner, tags, metadata, parent_id, child_key, child_index, run_at, deadline,
           (SELECT number FROM step), concurrency_key, concurrency_limit, unique_statuses, result_ttl_seconds,
           callback_url,
           CASE WHEN status = 'pending' AND run_at <= at THEN run_at + priority * {aging} END,
           status = 'pending' AND run_at > at
    FROM new
    ON CONFLICT DO NOTHING
    RETURNING id, queue, status, run_at, transitions, attempt, older_history
), recorded AS (
    INSERT INTO {history} (number, to_status, reason, actor, job_ids, sequences, attempts, older)
    SELECT (SELECT number FROM step), status, 'spawned', CAST(:actor AS text),
           array_agg(id), array_agg(transitions), array_agg(attempt), array_agg(older_history)
    FROM inserted GROUP BY status
), notified AS (
    SELECT pg_notify('{channel}', 'runnable:' || queue) FROM inserted
    WHERE status = 'pending' AND run_at <= now() GROUP BY queue
)
SELECT string_agg(CAST(id AS text), ','), (SELECT count(*) FROM notified) FROM inserted
"""

_FIND_EXISTING = """
SELECT wanted.place, CAST(job.id AS text)
FROM unnest([places integer], [ids uuid], [kinds text], [unique_keys text],
            [parent_ids uuid], [child_keys text], [child_indexes integer])
         AS wanted (place, id, kind, unique_key, parent_id, child_key, child_index),
     LATERAL (
        SELECT id FROM {jobs} WHERE id = wanted.id
        UNION ALL
        SELECT id FROM {jobs} WHERE parent_id = wanted.parent_id AND child_key = wanted.child_key
            AND child_index = wanted.child_index
        UNION ALL
        SELECT id FROM {jobs} WHERE kind = wanted.kind AND unique_key = wanted.unique_key
            AND unique_statuses IS NULL AND sought
        LIMIT 1
     ) AS job
"""

# The jobs whose turn is next, by index: none is read that is not taken. After them those whose time has come since they
# were written: they have no turn yet. In a busy queue they get one from `PROMOTE`; in an idle one they need none.
# Both begin where `claim_marks.py` says. Before the jobs, one row for each queue tells how the walk went: how many
# index entries it met, by the session's counters before and after, and where it ended.
# The constant limit is for the planner: it cannot see the quotas, would expect a tenth of the table, and, where JIT is
# on, compile the statement for longer than it runs.
# Jobs with a concurrency key, and those of paused or limited queues, are not for this statement: limit_statements.py.
_CLAIM = """
WITH step AS MATERIALIZED (
    SELECT nextval('{history_numbers}') AS number
), demand AS MATERIALIZED (
    SELECT queue, quota, since_turn, since_id, since_time, {entries} AS entries
    FROM unnest([queues text], [limits integer], [turns timestamptz], [turn_ids uuid], [run_ats timestamptz])
        AS demand (queue, quota, since_turn, since_id, since_time)
), picked AS MATERIALIZED (
    SELECT job.id, job.turn, demand.queue
    FROM demand, LATERAL (
        SELECT due.id, due.turn FROM (
            SELECT id, turn FROM (
                SELECT id, turn FROM {jobs}
                WHERE queue = demand.queue AND turn IS NOT NULL AND concurrency_key IS NULL
                    AND (turn, id) >= (demand.since_turn, demand.since_id)
                    AND (deadline IS NULL OR deadline > now())
                ORDER BY turn, id LIMIT demand.quota
                FOR NO KEY UPDATE SKIP LOCKED) AS ready
            UNION ALL
            SELECT id, turn FROM (
                SELECT id, turn FROM {jobs}
                WHERE queue = demand.queue AND delayed AND run_at <= now() AND concurrency_key IS NULL
                    AND run_at >= demand.since_time
                    AND (deadline IS NULL OR deadline > now())
                ORDER BY run_at, id LIMIT demand.quota
                FOR NO KEY UPDATE SKIP LOCKED) AS late
        ) AS due
        LIMIT demand.quota
    ) AS job
    WHERE NOT EXISTS (SELECT FROM {queues} WHERE name = demand.queue AND paused)
        AND NOT EXISTS (SELECT FROM {limits} WHERE (max_running IS NOT NULL OR rate IS NOT NULL)
            AND (scope IN ('kind', 'owner') OR scope = 'queue' AND name IN (demand.queue, '*')))
    LIMIT 10000
), {take}
(SELECT NULL, NULL, demand.queue, NULL, NULL, walk.jobs, CAST(walk.last_turn AS text),
        CAST(walk.entries - demand.entries AS float8), NULL, CAST(now() - interval '1 second' AS text), walk.last_id,
        NULL
 FROM demand, LATERAL (
    SELECT count(*) AS jobs, max(turn) AS last_turn, {entries} AS entries,
           (array_agg(id ORDER BY turn DESC, id DESC) FILTER (WHERE turn IS NOT NULL))[1] AS last_id
    FROM picked WHERE queue = demand.queue
 ) AS walk)
UNION ALL
({taken})
"""

# Marks what is picked as running, with its history. The claim of limited queues ends in the same.
_TAKE = """claimed AS (
    UPDATE {jobs} AS job
    SET status = 'running', turn = NULL, delayed = false,
        token = job.token + 1, attempt = job.attempt + 1, transitions = job.transitions + 1,
        newest_history = (SELECT number FROM step), older_history = job.newest_history,
        node = CAST(:node AS text), started_at = now(),
        lease_expires_at = now() + CAST(:lease AS float8) * interval '1 second'
    WHERE job.id = ANY(ARRAY(SELECT id FROM picked))
    RETURNING job.id, job.kind, job.queue, job.attempt, job.max_attempts, job.token, job.arguments, job.timeout_seconds,
              job.deadline, job.owner, job.parent_id, job.run_at, job.priority, job.transitions, job.older_history
), recorded AS (
    INSERT INTO {history} (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older,
                           lease_expires_at)
    SELECT (SELECT number FROM step), 'pending', 'running', 'claimed', 'node:' || CAST(:node AS text),
           array_agg(id), array_agg(transitions), array_agg(attempt), array_agg(older_history),
           now() + CAST(:lease AS float8) * interval '1 second'
    FROM claimed HAVING count(*) > 0
    RETURNING number, at, lease_expires_at
), watched AS (
    INSERT INTO {claims} (number, claimed_at, lease_expires_at, node)
    SELECT number, at, least(lease_expires_at, at + interval '1 minute'), CAST(:node AS text) FROM recorded
)
"""

_TAKEN = """
SELECT id, kind, queue, attempt, max_attempts, token, CAST(arguments AS text), timeout_seconds, deadline, owner,
       parent_id, CAST(extract(epoch FROM now() - run_at) AS float8)
FROM claimed ORDER BY run_at + priority * {aging}, id"""

# Delayed jobs whose time has come get their turn. An idle queue needs none of this; in a busy one they would wait for
# the end of the backlog.
PROMOTED_TOGETHER: Final = 5_000
"""So many jobs at most are given their turn by one statement, of each queue."""

PROMOTE = """
WITH due AS MATERIALIZED (
    SELECT job.id FROM unnest([queues text]) AS demand (queue),
    LATERAL (SELECT id FROM {jobs} WHERE queue = demand.queue AND delayed AND run_at <= now()
             ORDER BY run_at, id LIMIT CAST(:limit AS integer) FOR NO KEY UPDATE SKIP LOCKED) AS job
    LIMIT 10000
), promoted AS (
    UPDATE {jobs} AS job SET turn = job.run_at + job.priority * {aging}, delayed = false
    WHERE job.id = ANY(ARRAY(SELECT id FROM due))
    RETURNING job.id
)
SELECT count(*) FROM promoted
"""


# The compare-and-set. One row comes back: which places were written, which parents to look at, what to announce.
_APPLY = """
WITH step AS MATERIALIZED (
    SELECT nextval('{history_numbers}') AS number
), change AS (
    SELECT * FROM unnest([ids uuid], [sources text], [tokens bigint],
                         [targets text], [reasons text], [returned smallint],
                         [delays float8], [results json], [errors json],
                         [waits text])
        WITH ORDINALITY AS change (id, source, token, target, reason, returned, delay_seconds, result, error,
                                   waiting_on, place)
), written AS (
    UPDATE {jobs} AS job
    SET status = change.target,
        attempt = job.attempt - change.returned,
        transitions = job.transitions + 1,
        newest_history = (SELECT number FROM step),
        older_history = job.newest_history,
        run_at = CASE WHEN change.target <> 'pending' THEN job.run_at
                      WHEN change.source = 'created' THEN greatest(job.run_at, now())
                      ELSE now() + change.delay_seconds * interval '1 second' END,
        turn = CASE WHEN change.target <> 'pending' OR change.waiting_on IS NOT NULL THEN NULL
                    WHEN CASE WHEN change.source = 'created' THEN job.run_at <= now()
                              ELSE change.delay_seconds <= 0 END THEN now() + job.priority * {aging} END,
        delayed = change.target = 'pending' AND change.waiting_on IS NULL
                  AND CASE WHEN change.source = 'created' THEN job.run_at > now() ELSE change.delay_seconds > 0 END,
        waiting_on = change.waiting_on,
        lease_expires_at = NULL,
        finished_at = CASE WHEN change.target <> 'pending' THEN now() END,
        result_expires_at = CASE WHEN change.target = 'completed' AND change.result IS NOT NULL
                                 THEN now() + job.result_ttl_seconds * interval '1 second' END,
        stop_reason = CASE WHEN change.target <> 'pending' THEN change.reason END,
        result = change.result,
        error = CASE WHEN change.target IN ('failed', 'pending') THEN coalesce(change.error, job.error) END
    FROM change
    WHERE job.id = change.id AND job.status = change.source AND job.token = change.token
    RETURNING change.place, change.source, change.reason, change.returned, job.id, job.status, job.attempt,
              job.transitions, job.older_history, job.parent_id, job.waiting_on, job.queue, job.run_at
), recorded AS (
    INSERT INTO {history} (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older)
    SELECT (SELECT number FROM step), source, status, reason, CAST(:actor AS text),
           array_agg(id), array_agg(transitions), array_agg(attempt + returned), array_agg(older_history)
    FROM written GROUP BY source, status, reason
)
SELECT array_agg(place),
       array_agg(DISTINCT parent_id) FILTER (WHERE parent_id IS NOT NULL AND status <> 'pending'),
       array_agg(id) FILTER (WHERE waiting_on IS NOT NULL),
       array_agg(DISTINCT queue) FILTER (WHERE status = 'pending' AND waiting_on IS NULL AND run_at <= now()),
       count(*) FILTER (WHERE status <> 'pending'),
       min(CAST(id AS text)) FILTER (WHERE status <> 'pending')
FROM written
"""

# A last child may end while its parent parks. Whoever comes second must see the other: both lock the parent's row, and
# children are looked for in the next statement, whose snapshot is later than the lock.
_LOCK_PARENTS = """
SELECT id FROM {jobs} WHERE id = ANY(CAST([ids uuid] AS uuid[])) ORDER BY id FOR NO KEY UPDATE
"""

_WAKE_PARENTS = """
UPDATE {jobs} AS parent
SET waiting_on = NULL, run_at = greatest(parent.run_at, now()), delayed = parent.run_at > now(),
    turn = CASE WHEN parent.run_at <= now() THEN now() + parent.priority * {aging} END
WHERE parent.id = ANY(CAST([ids uuid] AS uuid[])) AND parent.status = 'pending' AND parent.waiting_on = 'children'
    AND NOT EXISTS (SELECT FROM {jobs} AS child WHERE child.parent_id = parent.id AND child.sought)
RETURNING parent.queue
"""

# Askers are jobs that wait for the model. As above: whoever wakes them has locked them by a statement before.
_WAKE_ASKERS = """
UPDATE {jobs} AS asker
SET waiting_on = NULL, run_at = greatest(asker.run_at, now()), delayed = asker.run_at > now(),
    turn = CASE WHEN asker.run_at <= now() THEN now() + asker.priority * {aging} END
WHERE asker.id = ANY(CAST([ids uuid] AS uuid[])) AND asker.status = 'pending' AND asker.waiting_on = 'llm_batch'
    AND NOT EXISTS (
        SELECT FROM {llm_requests} AS request LEFT JOIN {batch_items} AS item
            ON item.batch_id = request.batch_id AND item.position = request.position
        WHERE request.job_id = asker.id AND (request.batch_id IS NULL OR item.status = 'pending'))
RETURNING asker.queue
"""

_NOTIFY = """
SELECT pg_notify('{channel}', payload) FROM unnest([payloads text]) AS payload
"""

_ACTUAL = """
SELECT id, status, token FROM {jobs} WHERE id = ANY(CAST([ids uuid] AS uuid[]))
"""

_LOCK_JOBS = """
SELECT id, status, token, attempt, max_attempts, deadline, now() FROM {jobs}
WHERE id = ANY(CAST([ids uuid] AS uuid[])) ORDER BY id FOR NO KEY UPDATE
"""

# A cancel locks the parent, too, so either it sees the children that are inserted here, or they see its end.
_SHARE_PARENTS = """
SELECT id, status, token FROM {jobs} WHERE id = ANY(CAST([ids uuid] AS uuid[])) ORDER BY id FOR SHARE
"""

# Cancelled ones as well: an earlier cancel may have been interrupted before it came to their children.
_CHILDREN_TO_CANCEL = """
SELECT id FROM {jobs}
WHERE parent_id = ANY(CAST([ids uuid] AS uuid[])) AND status IN ({unfinished}, 'cancelled') ORDER BY id
"""

_RUN_NOW = """
WITH changed AS (
    UPDATE {jobs} SET run_at = now(), turn = now() + priority * {aging}, delayed = false
    WHERE id = ANY(CAST([ids uuid] AS uuid[])) AND delayed AND run_at > now()
    RETURNING id, queue
)
SELECT array_agg(id), (SELECT count(pg_notify('{channel}', 'runnable:' || queue)) FROM (
    SELECT DISTINCT queue FROM changed) AS touched) FROM changed
"""

_PROGRESS = """
UPDATE {jobs} AS job SET progress = attempt.progress
FROM unnest([ids uuid], [tokens bigint], [reports json]) AS attempt (id, token, progress)
WHERE job.id = attempt.id AND job.token = attempt.token AND job.status = 'running'
RETURNING job.id, job.token
"""

_OVERDUE = """
(SELECT id, kind, queue, status, token, attempt, max_attempts, deadline, now() FROM {jobs}
 WHERE waiting AND deadline <= now()
 ORDER BY deadline LIMIT CAST(:limit AS integer) FOR NO KEY UPDATE SKIP LOCKED)
"""

_COPY_JOBS = """
COPY {jobs} (id, arguments, newest_history, kind, queue, status, priority, run_at, max_attempts, timeout_seconds,
             deadline, owner, tags, metadata, concurrency_key, concurrency_limit, result_ttl_seconds, turn,
             delayed) FROM STDIN
"""

_BEGIN_COPY = """
SELECT now(), array_agg(nextval('{history_numbers}')) FROM generate_series(1, CAST(:count AS integer))
"""

_RECORD_COPIED = """
INSERT INTO {history} (number, to_status, reason, actor, job_ids, sequences, attempts, older)
SELECT number, status, 'spawned', CAST(:actor AS text), CAST(ids AS uuid[]), array_fill(1, ARRAY[jobs]),
       array_fill(CAST(0 AS smallint), ARRAY[jobs]), array_fill(CAST(NULL AS bigint), ARRAY[jobs])
FROM unnest([numbers bigint], [statuses text], [ids text], [counts integer]) AS step (number, status, ids, jobs)
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement in the two spellings of its parameters."""

    named: str
    """With ``:name``, as ``sqlalchemy.text`` takes it."""
    native: bytes
    """With ``%(name)s``, as psycopg takes it."""


class Statements:
    """The statements for one schema.

    Args:
        schema: the schema of the tables; a valid identifier.
        aging_seconds: what a step of priority is worth.
    """

    def __init__(self, schema: str, aging_seconds: float = DEFAULT_AGING_SECONDS) -> None:
        self.aging_seconds = aging_seconds
        self._statement = partial(compile_statement, names=names(schema, aging_seconds))
        self.insert = self._statement(_INSERT)
        self.find_existing = self._statement(_FIND_EXISTING)
        self.claim = self._statement(_CLAIM)
        self.promote = self._statement(PROMOTE)
        self.apply = self._statement(_APPLY)
        self.complete = self._statement(COMPLETE)
        self.lock_parents = self._statement(_LOCK_PARENTS)
        self.wake_parents = self._statement(_WAKE_PARENTS)
        self.wake_askers = self._statement(_WAKE_ASKERS)
        self.notify = self._statement(_NOTIFY)
        self.actual = self._statement(_ACTUAL)
        self.lock_jobs = self._statement(_LOCK_JOBS)
        self.share_parents = self._statement(_SHARE_PARENTS)
        self.children_to_cancel = self._statement(_CHILDREN_TO_CANCEL)
        self.run_now = self._statement(_RUN_NOW)
        self.progress = self._statement(_PROGRESS)
        self.overdue = self._statement(_OVERDUE)
        self.copy_jobs = self._statement(_COPY_JOBS)
        self.begin_copy = self._statement(_BEGIN_COPY)
        self.record_copied = self._statement(_RECORD_COPIED)


def names(schema: str, aging_seconds: float = DEFAULT_AGING_SECONDS) -> dict[str, str]:
    """Return what stands for the names in braces, in a schema."""
    tables = (
        "jobs",
        "history_numbers",
        "claims",
        "claimed",
        "queues",
        "limits",
        "permits",
        "buckets",
        "schedules",
        "callbacks",
        "job_steps",
        "llm_requests",
        "batches",
        "batch_items",
    )
    return {table: f'"{schema}".{table}' for table in tables} | {
        "history": f'"{schema}".history_batches',
        "schema": f'"{schema}"',
        "channel": channel(schema),
        "unfinished": UNFINISHED_SQL,
        "aging": f"interval '{aging_seconds:f} seconds'",
        "entries": "(pg_stat_get_xact_tuples_returned(CAST('{schema}.jobs_runnable' AS regclass))"
        " + pg_stat_get_xact_tuples_returned(CAST('{schema}.jobs_delayed' AS regclass)))",
        "take": _TAKE,
        "taken": _TAKEN,
    }


def compile_statement(template: str, *, names: Mapping[str, str]) -> Statement:
    """Return a statement in both spellings, with its names in braces and its arrays in brackets written out."""
    whole = template
    for part in ("take", "taken", "entries"):
        whole = whole.replace(f"{{{part}}}", names.get(part, ""))
    arrays = re.sub(r"\[(\w+) (\w+)\]", r"(SELECT CAST(CAST(:\1 AS text) AS \2[]))", whole)
    indented = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], arrays).strip()
    named = re.sub(r"\n +", "\n", indented)  # psycopg prepares no statement of more than 4,096 bytes
    return Statement(named, re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", named).encode())


def channel(schema: str) -> str:
    """Return the name of the notification channel of a schema."""
    return f"{schema}_wake"
