"""The statements about leases, as SQL for one schema. Spelled as in ``statements.py``.

A job's lease stands in the job, without an index: it is written for every job, and asked for in those few only whose
worker died. Those are found by their claim. A claim has one row, whose lease is never later than that of any of its
running jobs, and is looked at when that is over; most of its jobs, often all, have ended by then.
"""

from __future__ import annotations

from functools import partial

from .statements import compile_statement, names

# The claims to look at, from one on, locked against everybody else who would look at them. Their jobs are read by the
# next statement, whose snapshot is later than the lock: what was written before it is not overwritten with less.
_DUE = """
SELECT number, CAST(lease_expires_at AS text) FROM {claims}
WHERE (lease_expires_at, number) > (CAST(:after AS timestamptz), CAST(:number AS bigint)) AND lease_expires_at < now()
ORDER BY lease_expires_at, number LIMIT CAST(:limit AS integer)
FOR UPDATE SKIP LOCKED
"""

# Forgets claims of which nothing runs any longer, and leaves of the others only what does, until the first of their
# leases is over. Returns the numbers of those that have such a one already.
_SETTLE = """
WITH running AS MATERIALIZED (
    SELECT listed.number, array_agg(job.id) AS ids, min(job.lease_expires_at) AS lease_expires_at
    FROM {claimed} AS listed JOIN {jobs} AS job ON job.id = listed.job_id
    WHERE listed.lease_expires_at < now() AND listed.number = ANY(CAST([numbers bigint] AS bigint[]))
        AND job.newest_history = listed.number AND job.status = 'running'
    GROUP BY listed.number
), over AS (
    DELETE FROM {claims} AS claim
    WHERE claim.lease_expires_at < now() AND claim.number = ANY(CAST([numbers bigint] AS bigint[]))
        AND NOT EXISTS (SELECT FROM running WHERE running.number = claim.number)
), kept AS (
    UPDATE {claims} AS claim SET lease_expires_at = running.lease_expires_at, job_ids = running.ids
    FROM running
    WHERE claim.lease_expires_at < now() AND claim.number = running.number
        AND (claim.job_ids IS NULL OR cardinality(claim.job_ids) > cardinality(running.ids)
             OR claim.lease_expires_at <> running.lease_expires_at)
)
SELECT array_agg(number) FROM running WHERE lease_expires_at < now()
"""

_EXPIRED = """
SELECT job.id, job.kind, job.queue, job.status, job.token, job.attempt, job.max_attempts, job.deadline, now()
FROM {claimed} AS listed JOIN {jobs} AS job ON job.id = listed.job_id
WHERE listed.lease_expires_at < now() AND listed.number = ANY(CAST([numbers bigint] AS bigint[]))
    AND job.newest_history = listed.number AND job.status = 'running' AND job.lease_expires_at < now()
    AND (CAST(:everybody AS boolean) OR listed.node = ANY(CAST([nodes text] AS text[])))
ORDER BY job.lease_expires_at LIMIT CAST(:limit AS integer)
FOR NO KEY UPDATE OF job SKIP LOCKED
"""

# What a claim took whose answer got lost. No transition: the claim has recorded it.
_ADOPT = """
UPDATE {jobs} AS job
SET lease_expires_at = greatest(job.lease_expires_at, now() + CAST(:lease AS float8) * interval '1 second')
FROM {claimed} AS listed
WHERE listed.node = CAST(:node AS text) AND job.id = listed.job_id
    AND job.newest_history = listed.number AND job.status = 'running'
    AND NOT EXISTS (SELECT FROM unnest([ids uuid], [tokens bigint]) AS known (id, token)
                    WHERE known.id = job.id AND known.token = job.token)
RETURNING job.id, job.kind, job.queue, job.attempt, job.max_attempts, job.token, CAST(job.arguments AS text),
          job.timeout_seconds, job.deadline, job.owner, job.parent_id,
          CAST(extract(epoch FROM job.started_at - job.run_at) AS float8)
"""

# Never to an earlier moment, of which the job's claim would know nothing.
_RENEW = """
UPDATE {jobs} AS job
SET lease_expires_at = greatest(job.lease_expires_at, now() + CAST(:lease AS float8) * interval '1 second')
FROM unnest([ids uuid], [tokens bigint]) AS attempt (id, token)
WHERE job.id = attempt.id AND job.token = attempt.token AND job.status = 'running'
RETURNING job.id, job.token
"""

# The jobs before their claims: whoever looks at a claim meanwhile, and sees the jobs' leases as they were, holds its
# row, and this waits for it.
_EXPIRE_JOBS = """
UPDATE {jobs} AS job SET lease_expires_at = now() - interval '1 microsecond'
FROM {claimed} AS listed
WHERE listed.node = ANY(CAST([nodes text] AS text[])) AND job.id = listed.job_id
    AND job.newest_history = listed.number AND job.status = 'running' AND job.lease_expires_at >= now()
"""

_EXPIRE_CLAIMS = """
WITH held AS MATERIALIZED (
    SELECT number FROM {claims} WHERE node = ANY(CAST([nodes text] AS text[])) ORDER BY number FOR UPDATE
)
UPDATE {claims} AS claim SET lease_expires_at = now() - interval '1 microsecond'
FROM held WHERE claim.number = held.number
"""


class LeaseStatements:
    """The statements for one schema.

    Args:
        schema: the schema of the tables; a valid identifier.
    """

    def __init__(self, schema: str) -> None:
        compiled = partial(compile_statement, names=names(schema))
        self.due = compiled(_DUE)
        self.settle = compiled(_SETTLE)
        self.expired = compiled(_EXPIRED)
        self.adopt = compiled(_ADOPT)
        self.renew = compiled(_RENEW)
        self.expire_jobs = compiled(_EXPIRE_JOBS)
        self.expire_claims = compiled(_EXPIRE_CLAIMS)
