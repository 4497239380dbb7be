"""Records and histories for tests of the checks."""

import datetime
from typing import Any
from uuid import uuid4

from callboard import HistoryRow, JobRecord, Reason, Status
from tests.actors.jobs.builders import record

BEGAN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def make_record(status: Status = Status.COMPLETED, attempt: int = 1, **fields: Any) -> JobRecord:
    """Return the record of a job that has ended, two seconds after its spawn."""
    values: dict[str, Any] = {
        "kind": "callboard.demo.jobs.parse_module",
        "queue": "demo",
        "run_at": BEGAN,
        "attempt": attempt,
        "token": attempt,
        "created_at": BEGAN,
        "started_at": BEGAN,
        "finished_at": BEGAN + datetime.timedelta(seconds=2) if status.is_terminal else None,
    }
    changes = values | fields
    return record(changes.pop("id", uuid4()), status, **changes)


def make_history(*reasons: Reason) -> list[HistoryRow]:
    """Return transitions for these reasons; of their other columns the checks read nothing."""
    job_id = uuid4()
    return [
        HistoryRow(sequence, job_id, None, Status.PENDING, 0, reason, "node:test", BEGAN)
        for sequence, reason in enumerate(reasons, start=1)
    ]
