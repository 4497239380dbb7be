"""The statements about batches, as SQL for one schema. Spelled as in ``statements.py``."""

from __future__ import annotations

from functools import partial

from .schema import UNFINISHED_BATCHES_SQL
from .statements import channel, compile_statement

_RECORD = """
INSERT INTO {batches} (id, created_by, provider, endpoint, total_items, status, next_poll_at)
VALUES (:id, :actor, :provider, :endpoint, :total, 'submitting', now() + CAST(:grace AS float8) * interval '1 second')
ON CONFLICT DO NOTHING
"""

_COPY_ITEMS = """
COPY {items} (batch_id, position, custom_id, request) FROM STDIN
"""

_TAKE_SUBMISSION = """
UPDATE {batches} SET status = 'submitting', submissions = submissions + 1, polled_at = now(),
    next_poll_at = now() + CAST(:grace AS float8) * interval '1 second'
WHERE id = :id AND submissions = :submissions AND status IN ('submitting', 'unknown') AND cancel_requested_at IS NULL
"""

_CONFIRM = """
UPDATE {batches} SET status = :status, provider_batch_id = :provider_batch_id, submitted_at = now(),
    next_poll_at = now(), provider_status = :provider_status, provider_counts = CAST(:counts AS json),
    expires_at = :expires_at, failures = 0, last_error = NULL
WHERE id = :id
"""

# The status changes between the unconfirmed ones only: every other change has a statement of its own.
_NOTE = """
UPDATE {batches} SET
    status = CASE WHEN status IN ('submitting', 'unknown') THEN coalesce(:status, status) ELSE status END,
    polled_at = now(), next_poll_at = now() + CAST(:next_poll_seconds AS float8) * interval '1 second',
    provider_status = coalesce(:provider_status, provider_status),
    provider_counts = coalesce(CAST(:provider_counts AS json), provider_counts),
    expires_at = coalesce(CAST(:expires_at AS timestamptz), expires_at),
    provider_ended_at = CASE WHEN CAST(:ended AS boolean) THEN coalesce(provider_ended_at, now())
                             ELSE provider_ended_at END,
    cancel_sent_at = CASE WHEN CAST(:cancel_sent AS boolean) THEN coalesce(cancel_sent_at, now())
                          ELSE cancel_sent_at END,
    failures = :failures, short_reads = :short_reads, last_error = :last_error
WHERE id = :id AND status IN ({unfinished})
"""

_COLLECT = """
UPDATE {items} AS item
SET status = outcome.status, result = outcome.result, error = outcome.error, updated_at = now()
FROM unnest([positions integer], [statuses text], [results json], [errors json])
    AS outcome (position, status, result, error)
WHERE item.batch_id = :id AND item.position = outcome.position AND item.status = 'pending'
RETURNING item.status, item.position
"""

_KEEP_STRAYS = """
INSERT INTO {strays} (batch_id, wire_id, content)
SELECT :id, name, content FROM unnest([names text], [contents json]) AS stray (name, content)
ON CONFLICT DO NOTHING
"""

_COUNT_COLLECTED = """
UPDATE {batches} SET collected_items = collected_items + :updated, stray_items = stray_items + :strays,
    provider_ended_at = coalesce(provider_ended_at, now())
WHERE id = :id
"""

_SETTLE_REST = """
UPDATE {items} SET status = :status, error = CAST(:error AS json), updated_at = now()
WHERE batch_id = :id AND status = 'pending'
RETURNING position
"""

# Without positions all that was pending has been settled. Locked in one order, and before they are woken: a job that is
# just parking is seen by this, or sees by itself that its reply is there.
_LOCK_ASKERS = """
SELECT job.id FROM {jobs} AS job
WHERE job.status IN ('pending', 'running') AND job.id IN (
    SELECT request.job_id FROM {requests} AS request WHERE request.batch_id = :id
        AND (CAST(:positions AS text) IS NULL OR request.position = ANY(CAST(CAST(:positions AS text) AS integer[]))))
ORDER BY job.id FOR NO KEY UPDATE
"""

# Of those jobs only, and after they are locked: whoever asks locks his job first, too.
_PUT_BACK = """
UPDATE {requests} AS request SET batch_id = NULL, position = NULL, resubmissions = request.resubmissions + 1
WHERE request.batch_id = :id AND request.job_id = ANY(CAST([ids uuid] AS uuid[]))
    AND request.position = ANY(CAST([positions integer] AS integer[])) AND request.resubmissions < :most
"""

_FINISH = """
UPDATE {batches} SET status = :status, finished_at = now(), polled_at = now(), failures = 0,
    last_error = CAST(:error AS text)
WHERE id = :id
"""

_REQUEST_CANCEL = """
UPDATE {batches} SET status = :status, cancel_requested_at = now(), cancel_requested_by = :actor
WHERE id = :id
"""

_COLUMNS = """
SELECT id, provider, endpoint, status, provider_batch_id, total_items, collected_items, stray_items, created_at,
    created_by, submitted_at, submissions, next_poll_at, polled_at, provider_status, provider_counts, expires_at,
    provider_ended_at, cancel_requested_at, cancel_sent_at, failures, short_reads, last_error, finished_at,
    now() AS read_at
FROM {batches}
"""

_GET = _COLUMNS + "WHERE id = :id"
_LOCK = _COLUMNS + "WHERE id = :id FOR NO KEY UPDATE"

_DUE = (
    _COLUMNS
    + """
WHERE status IN ({unfinished}) AND next_poll_at <= now() AND provider <> ALL(CAST([without text] AS text[]))
ORDER BY polled_at NULLS FIRST, id LIMIT CAST(:limit AS integer)
"""
)

_LIST = (
    _COLUMNS
    + """
WHERE (CAST(:statuses AS text[]) IS NULL OR status = ANY(CAST(:statuses AS text[])))
    AND (CAST(:provider AS text) IS NULL OR provider = CAST(:provider AS text))
    AND (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid))
ORDER BY id DESC LIMIT CAST(:limit AS integer)
"""
)

_REQUESTS = """
SELECT position, CAST(request AS text) FROM {items} WHERE batch_id = :id ORDER BY position
"""

_RESULTS = """
SELECT custom_id, status, CAST(result AS text), CAST(error AS text) FROM {items}
WHERE batch_id = :id AND position > :after ORDER BY position LIMIT CAST(:limit AS integer)
"""

_KNOWN = """
SELECT provider_batch_id FROM {batches}
WHERE provider = :provider AND provider_batch_id = ANY(CAST([names text] AS text[]))
"""

_ANNOUNCE = """
SELECT pg_notify('{channel}', 'batch:' || CAST(:id AS text))
"""


class BatchStatements:
    """The statements for one schema.

    Args:
        schema: its name.
    """

    def __init__(self, schema: str) -> None:
        compiled = partial(
            compile_statement,
            names={
                "batches": f'"{schema}".batches',
                "jobs": f'"{schema}".jobs',
                "requests": f'"{schema}".llm_requests',
                "items": f'"{schema}".batch_items',
                "strays": f'"{schema}".batch_strays',
                "unfinished": UNFINISHED_BATCHES_SQL,
                "channel": channel(schema),
            },
        )
        self.record = compiled(_RECORD)
        self.copy_items = compiled(_COPY_ITEMS)
        self.take_submission = compiled(_TAKE_SUBMISSION)
        self.confirm = compiled(_CONFIRM)
        self.note = compiled(_NOTE)
        self.collect = compiled(_COLLECT)
        self.keep_strays = compiled(_KEEP_STRAYS)
        self.count_collected = compiled(_COUNT_COLLECTED)
        self.settle_rest = compiled(_SETTLE_REST)
        self.lock_askers = compiled(_LOCK_ASKERS)
        self.put_back = compiled(_PUT_BACK)
        self.finish = compiled(_FINISH)
        self.request_cancel = compiled(_REQUEST_CANCEL)
        self.get = compiled(_GET)
        self.lock = compiled(_LOCK)
        self.due = compiled(_DUE)
        self.list = compiled(_LIST)
        self.requests = compiled(_REQUESTS)
        self.results = compiled(_RESULTS)
        self.known = compiled(_KNOWN)
        self.announce = compiled(_ANNOUNCE)
