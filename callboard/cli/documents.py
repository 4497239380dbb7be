"""Jobs as JSON documents. The keys are public: docs/cli.md lists them."""

from __future__ import annotations

import json
from typing import Any

from callboard import HistoryRow, JobRecord
from callboard.actors.jobs.types import ErrorCount

from .moment import iso


def job_summary(record: JobRecord) -> dict[str, Any]:
    """Return what a listing says about a job: no payloads, which may be large or private."""
    error = record.error
    return {
        "id": str(record.id),
        "kind": record.kind,
        "queue": record.queue,
        "status": record.status.value,
        "stop_reason": record.stop_reason,
        "priority": record.priority,
        "attempt": record.attempt,
        "max_attempts": record.max_attempts,
        "run_at": iso(record.run_at),
        "waiting_on": record.waiting_on,
        "created_at": iso(record.created_at),
        "started_at": iso(record.started_at),
        "finished_at": iso(record.finished_at),
        "node": record.node,
        "owner": record.owner,
        "tags": list(record.tags),
        "unique_key": record.unique_key,
        "concurrency_key": record.concurrency_key,
        "parent_id": None if record.parent_id is None else str(record.parent_id),
        "progress": record.progress,
        "error": None if error is None else {"type": error["type"], "message": error["message"]},
    }


def job_document(record: JobRecord) -> dict[str, Any]:
    """Return everything that is stored about a job, its arguments and result among it."""
    return job_summary(record) | {
        "arguments": json.loads(record.arguments),
        "result": None if record.result is None else json.loads(record.result),
        "error": record.error,
        "metadata": record.metadata,
        "timeout_seconds": record.timeout_seconds,
        "deadline": iso(record.deadline),
        "lease_expires_at": iso(record.lease_expires_at),
        "concurrency_limit": record.concurrency_limit,
        "unique_statuses": None if record.unique_statuses is None else [*map(str, record.unique_statuses)],
        "result_ttl_seconds": record.result_ttl_seconds,
        "result_expired": record.result_expired,
        "callback_url": record.callback_url,
        "callback_sent_at": iso(record.callback_sent_at),
        "callback_status_code": record.callback_status_code,
        "callback_error": record.callback_error,
        "child_key": record.child_key,
        "child_index": record.child_index,
    }


def error_count_document(count: ErrorCount) -> dict[str, Any]:
    """Return one line of the dead letter list."""
    return count._asdict() | {"latest_at": iso(count.latest_at), "latest_id": str(count.latest_id)}


def history_document(row: HistoryRow) -> dict[str, Any]:
    """Return one transition."""
    return {
        "sequence": row.sequence,
        "from_status": None if row.from_status is None else row.from_status.value,
        "to_status": row.to_status.value,
        "attempt": row.attempt,
        "reason": row.reason.value,
        "actor": row.actor,
        "at": iso(row.at),
    }
