"""Records and histories for tests of the checks."""

import datetime
from typing import Any
from uuid import uuid4

from callboard import HistoryRow, JobRecord, Reason, Status

BEGAN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def make_record(status: Status = Status.COMPLETED, attempt: int = 1, **fields: Any) -> JobRecord:
    """Return the record of a job that has ended, two seconds after its spawn."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "kind": "callboard.demo.jobs.parse_module",
        "queue": "demo",
        "status": status,
        "priority": 0,
        "run_at": BEGAN,
        "attempt": attempt,
        "max_attempts": 3,
        "token": attempt,
        "arguments": "{}",
        "result": None,
        "error": None,
        "stop_reason": None,
        "waiting_on": None,
        "progress": None,
        "owner": None,
        "tags": (),
        "metadata": {},
        "unique_key": None,
        "parent_id": None,
        "child_key": None,
        "child_index": None,
        "node": None,
        "timeout_seconds": None,
        "deadline": None,
        "lease_expires_at": None,
        "created_at": BEGAN,
        "started_at": BEGAN,
        "finished_at": BEGAN + datetime.timedelta(seconds=2) if status.is_terminal else None,
    }
    return JobRecord(**values | fields)


def make_history(*reasons: Reason) -> list[HistoryRow]:
    """Return transitions for these reasons; of their other columns the checks read nothing."""
    job_id = uuid4()
    return [
        HistoryRow(sequence, job_id, None, Status.PENDING, 0, reason, "node:test", BEGAN)
        for sequence, reason in enumerate(reasons, start=1)
    ]
