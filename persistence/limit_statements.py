"""The statements about limits, queues and unique jobs, as SQL for one schema. Spelled as in ``statements.py``."""

from __future__ import annotations

from functools import partial

from callboard.actors.jobs.turn import DEFAULT_AGING_SECONDS

from .statements import PROMOTE, compile_statement, names

# One lock for all claims that count. It is taken in a statement of its own: the next one's snapshot is later than the
# commit of whoever held it before, so what is counted is what holds. For the rest of the transaction the planner reads
# by index: it cannot see how few jobs there is room for, and would read a table of thousands from end to end.
_LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended('callboard admission {schema}', 0)),
       set_config('enable_seqscan', 'off', true)
"""

_STATE = """
SELECT (SELECT json_agg(entry) FROM {limits} AS entry),
       (SELECT array_agg(name) FROM {queues} WHERE paused),
       (SELECT json_object_agg(permit, jobs) FROM (
            SELECT permit, count(*) AS jobs FROM {permits} GROUP BY permit) AS held),
       (SELECT json_object_agg(permit, json_build_array(
            tokens, extract(epoch FROM clock_timestamp() - filled_at))) FROM {buckets}),
       clock_timestamp()
"""

# Without keys: as the claim of other queues, but past the kinds and owners that have reached their limit. With keys:
# the distinct keys of a queue by jumps in the index, and of each as many jobs as it has room for; so a key with a long
# backlog costs no more than one with a short one, and hinders nobody. Whose time has come was given a turn before.
_CANDIDATES = """
SELECT id, queue, kind, owner, concurrency_key, concurrency_limit FROM (
    SELECT job.* FROM unnest([queues text], [quotas integer]) AS demand (queue, quota),
    LATERAL (
        SELECT id, queue, kind, owner, concurrency_key, concurrency_limit, turn FROM {jobs}
        WHERE queue = demand.queue AND turn IS NOT NULL AND concurrency_key IS NULL
            AND (deadline IS NULL OR deadline > now())
            AND kind <> ALL(CAST([kinds text] AS text[]))
            AND (owner IS NULL OR owner <> ALL(CAST([owners text] AS text[])))
        ORDER BY turn, id LIMIT demand.quota
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS job
    UNION ALL
    SELECT job.* FROM unnest([queues text], [quotas integer]) AS demand (queue, quota),
    LATERAL (
        WITH RECURSIVE key (name) AS (
            (SELECT concurrency_key FROM {jobs}
             WHERE queue = demand.queue AND turn IS NOT NULL AND concurrency_key IS NOT NULL
             ORDER BY concurrency_key LIMIT 1)
            UNION ALL
            SELECT (SELECT further.concurrency_key FROM {jobs} AS further
                    WHERE further.queue = demand.queue AND further.concurrency_key > key.name
                        AND further.turn IS NOT NULL AND further.concurrency_key IS NOT NULL
                    ORDER BY further.concurrency_key LIMIT 1)
            FROM key WHERE key.name IS NOT NULL
        )
        SELECT runnable.* FROM key, LATERAL (
            SELECT coalesce(
                (SELECT max_running FROM {limits} WHERE scope = 'key' AND name IN (key.name, '*')
                 ORDER BY name = '*' LIMIT 1),
                (SELECT concurrency_limit FROM {jobs}
                 WHERE queue = demand.queue AND concurrency_key = key.name AND turn IS NOT NULL
                    AND (deadline IS NULL OR deadline > now())
                 ORDER BY turn, id LIMIT 1)
            ) - (SELECT count(*) FROM {permits} WHERE permit = 'key:' || key.name) AS jobs
        ) AS room, LATERAL (
            SELECT id, queue, kind, owner, concurrency_key, concurrency_limit, turn FROM {jobs}
            WHERE queue = demand.queue AND concurrency_key = key.name AND turn IS NOT NULL
                AND (deadline IS NULL OR deadline > now())
                AND kind <> ALL(CAST([kinds text] AS text[]))
                AND (owner IS NULL OR owner <> ALL(CAST([owners text] AS text[])))
            ORDER BY turn, id LIMIT least(demand.quota, greatest(room.jobs, 0))
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS runnable
        WHERE key.name IS NOT NULL AND key.name <> ALL(CAST([keys text] AS text[]))
    ) AS job
) AS candidate
ORDER BY turn, id LIMIT 10000
"""

_RUNNABLE_QUEUES = """
SELECT name FROM unnest([queues text]) AS asked (name)
WHERE EXISTS (SELECT FROM {jobs} WHERE queue = name AND turn IS NOT NULL AND concurrency_key IS NULL)
    OR EXISTS (SELECT FROM {jobs} WHERE queue = name AND turn IS NOT NULL AND concurrency_key IS NOT NULL)
"""

_CLAIM_ADMITTED = """
WITH step AS MATERIALIZED (
    SELECT nextval('{history_numbers}') AS number
), picked AS MATERIALIZED (
    SELECT admitted.id FROM unnest([ids uuid]) AS admitted (id)
), {take}
{taken}
"""

_HOLD = """
INSERT INTO {permits} (permit, job_id, token)
SELECT permit, job_id, token FROM unnest([permits text], [ids uuid], [tokens bigint]) AS held (permit, job_id, token)
ON CONFLICT (permit, job_id) DO UPDATE SET token = excluded.token, adopted = false
"""

_RELEASE = """
WITH released AS (
    DELETE FROM {permits} AS held USING unnest([ids uuid], [tokens bigint]) AS ended (id, token)
    WHERE held.job_id = ended.id AND held.token = ended.token
    RETURNING held.job_id
)
SELECT pg_notify('{channel}', 'freed:') FROM (SELECT FROM released LIMIT 1) AS freed
"""

# The workers of jobs that ran already when a limit was set know of no permit, so they give none back.
_FORGET_ADOPTED = """
DELETE FROM {permits} AS held
WHERE adopted AND NOT EXISTS (SELECT FROM {jobs} AS job
                              WHERE job.id = held.job_id AND job.status = 'running' AND job.token = held.token)
"""

_FORGET = """
DELETE FROM {permits} AS held
WHERE NOT EXISTS (SELECT FROM {jobs} AS job
                  WHERE job.id = held.job_id AND job.status = 'running' AND job.token = held.token)
"""

_SPEND = """
INSERT INTO {buckets} (permit, tokens, filled_at)
SELECT permit, tokens, CAST(:at AS timestamptz) FROM unnest([permits text], [levels float8]) AS spent (permit, tokens)
ON CONFLICT (permit) DO UPDATE SET tokens = excluded.tokens, filled_at = excluded.filled_at
"""

_FORGET_BUCKETS = """
DELETE FROM {buckets} WHERE filled_at < now() - interval '1 day'
    - (SELECT coalesce(max(rate_period_seconds), 0) FROM {limits}) * interval '1 second'
"""

_CONTROLS = """
SELECT (SELECT json_agg(entry) FROM {limits} AS entry),
       (SELECT json_agg(json_build_object('name', name, 'paused', paused, 'draining', draining, 'keyed', keyed,
            'changed_by', changed_by, 'changed_at', changed_at)) FROM {queues})
"""

_SET_LIMIT = """
INSERT INTO {limits} AS known (scope, name, max_running, max_queued, rate, rate_period_seconds, changed_by)
VALUES (:scope, :name, :max_running, :max_queued, :rate, :rate_period_seconds, :actor)
ON CONFLICT (scope, name) DO UPDATE SET
    max_running = excluded.max_running, max_queued = excluded.max_queued, rate = excluded.rate,
    rate_period_seconds = excluded.rate_period_seconds, changed_by = excluded.changed_by, changed_at = now()
"""

_CLEAR_LIMIT = """
WITH emptied AS (DELETE FROM {buckets} WHERE permit = CAST(:scope AS text) || ':' || CAST(:name AS text))
DELETE FROM {limits} WHERE scope = :scope AND name = :name RETURNING name
"""

# What runs already counts under a limit from the moment at which it is set.
_HOLD_RUNNING = """
INSERT INTO {permits} (permit, job_id, token, adopted)
SELECT CAST(:scope AS text) || ':' || name, id, token, true FROM (
    SELECT id, token, CASE CAST(:scope AS text) WHEN 'queue' THEN queue WHEN 'kind' THEN kind WHEN 'owner' THEN owner
                           ELSE concurrency_key END AS name
    FROM {claimed} JOIN {jobs} ON id = job_id WHERE newest_history = number AND status = 'running'
) AS running
WHERE name IS NOT NULL AND CAST(:name AS text) IN (name, '*')
ON CONFLICT DO NOTHING
"""

_SET_QUEUE = """
INSERT INTO {queues} AS known (name, paused, draining, changed_by)
VALUES (:name, coalesce(:paused, false), coalesce(:draining, false), :actor)
ON CONFLICT (name) DO UPDATE SET
    paused = coalesce(:paused, known.paused), draining = coalesce(:draining, known.draining),
    changed_by = excluded.changed_by, changed_at = now()
"""

_MARK_KEYED = """
INSERT INTO {queues} AS known (name, keyed, changed_by)
SELECT name, true, CAST(:actor AS text) FROM unnest([queues text]) AS queue (name) ORDER BY name
ON CONFLICT (name) DO UPDATE SET keyed = true WHERE NOT known.keyed
"""

_ANNOUNCE = """
SELECT pg_notify('{channel}', 'controls:')
"""

# Exact: two spawns under one bound come one after the other, and the second counts what the first wrote.
_LOCK_QUOTAS = """
SELECT pg_advisory_xact_lock(hashtextextended('callboard quota {schema} ' || name, 0))
FROM unnest([quotas text]) AS quota (name)
"""

_QUEUED_IN_QUEUE = """
SELECT count(*) FROM (
    (SELECT FROM {jobs} WHERE queue = :name AND turn IS NOT NULL AND concurrency_key IS NULL
     LIMIT CAST(:bound AS integer))
    UNION ALL
    (SELECT FROM {jobs} WHERE queue = :name AND turn IS NOT NULL AND concurrency_key IS NOT NULL
     LIMIT CAST(:bound AS integer))
    UNION ALL
    (SELECT FROM {jobs} WHERE queue = :name AND delayed LIMIT CAST(:bound AS integer))
    LIMIT CAST(:bound AS integer)
) AS queued
"""

_QUEUED_OF_OWNER = """
SELECT count(*) FROM (
    SELECT FROM {jobs} WHERE owner = :name AND waiting LIMIT CAST(:bound AS integer)
) AS queued
"""


class LimitStatements:
    """The statements for one schema.

    Args:
        schema: the schema of the tables; a valid identifier.
        aging_seconds: what a step of priority is worth.
    """

    def __init__(self, schema: str, aging_seconds: float = DEFAULT_AGING_SECONDS) -> None:
        compiled = partial(compile_statement, names=names(schema, aging_seconds))
        self.lock = compiled(_LOCK)
        self.state = compiled(_STATE)
        self.promote = compiled(PROMOTE)
        self.candidates = compiled(_CANDIDATES)
        self.claim_admitted = compiled(_CLAIM_ADMITTED)
        self.hold = compiled(_HOLD)
        self.release = compiled(_RELEASE)
        self.forget_adopted = compiled(_FORGET_ADOPTED)
        self.forget = compiled(_FORGET)
        self.spend = compiled(_SPEND)
        self.forget_buckets = compiled(_FORGET_BUCKETS)
        self.controls = compiled(_CONTROLS)
        self.set_limit = compiled(_SET_LIMIT)
        self.clear_limit = compiled(_CLEAR_LIMIT)
        self.hold_running = compiled(_HOLD_RUNNING)
        self.set_queue = compiled(_SET_QUEUE)
        self.mark_keyed = compiled(_MARK_KEYED)
        self.announce = compiled(_ANNOUNCE)
        self.lock_quotas = compiled(_LOCK_QUOTAS)
        self.runnable_queues = compiled(_RUNNABLE_QUEUES)
        self.queued_in_queue = compiled(_QUEUED_IN_QUEUE)
        self.queued_of_owner = compiled(_QUEUED_OF_OWNER)
