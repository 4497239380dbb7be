"""Short ways to say which job a test is about."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import AttemptKey, ClaimedJob, JobRecord

JOB_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Job:
    """A subject of ``decide``."""

    status: Status = Status.RUNNING
    attempt: int = 1
    max_attempts: int = 3
    token: int = 7
    deadline: datetime | None = None
    id: UUID = JOB_ID


def claimed(job_id: UUID = JOB_ID, **changes: Any) -> ClaimedJob:
    """Return a claimed job like any other, but for the changes."""
    plain = ClaimedJob(
        id=job_id,
        kind="tests.kind",
        queue="default",
        attempt=1,
        max_attempts=3,
        token=7,
        arguments="{}",
        timeout_seconds=None,
        deadline=None,
        owner=None,
        parent_id=None,
        wait_seconds=0.0,
    )
    return plain._replace(**changes)


def record(job_id: UUID = JOB_ID, status: Status = Status.COMPLETED, **changes: Any) -> JobRecord:
    """Return a stored job like any other, but for the changes."""
    fields: dict[str, Any] = {
        "kind": "tests.kind",
        "queue": "default",
        "priority": 0,
        "run_at": NOW,
        "attempt": 1,
        "max_attempts": 3,
        "token": 7,
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
        "created_at": NOW,
        "started_at": None,
        "finished_at": None,
    }
    return JobRecord(id=job_id, status=status, **(fields | changes))


class Services:
    """What a context borrows from the runtime: remembers progress, answers ``children`` from a script."""

    def __init__(self, loop: Any = None) -> None:
        self.loop = loop
        self.reports: list[tuple[AttemptKey, dict[str, Any]]] = []
        self.asked: list[tuple[str, list[tuple[Any, ...]]]] = []
        self.answer: list[JobRecord] = []
        self.steps: dict[str, str] = {}
        self.result_limit_bytes = 100
        self.replies: dict[str, Any] = {}

    def progress(self, attempt: AttemptKey, progress: dict[str, Any]) -> None:
        self.reports.append((attempt, progress))

    async def children(self, parent: Any, key: str, job: Any, calls: Any) -> list[JobRecord]:
        self.asked.append((key, list(calls)))
        return self.answer

    async def kept_step(self, job_id: UUID, key: str) -> str | None:
        return self.steps.get(key)

    async def keep_step(self, attempt: AttemptKey, key: str, value: str) -> str:
        return self.steps.setdefault(key, value)

    async def llm_reply(self, attempt: AttemptKey, key: str, provider: str, params: str) -> Any:
        return self.replies.get(key)

    async def unknown_for_seconds(self, job_id: UUID) -> float:
        return 0.0
