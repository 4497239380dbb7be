"""`callboard status`."""

from datetime import UTC, datetime

from callboard import Status, StoreSummary
from callboard.actors.jobs.types import Node, QueueDepth, StatusCount
from callboard.cli.status import status_document

from .support import Database, Invoke, document, succeeded

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
NONE = dict.fromkeys((status.value for status in Status), 0)


def test_counts_by_queue_and_by_kind() -> None:
    summary = StoreSummary(
        counts=(
            StatusCount("a", "one", Status.PENDING, 3),
            StatusCount("a", "two", Status.PENDING, 4),
            StatusCount("b", "one", Status.FAILED, 5),
        ),
        depths=(QueueDepth("one", 2, AT),),
        nodes=(Node("host:1", AT, AT, 7),),
    )
    at = "2026-01-02T03:04:05.678Z"
    assert status_document(summary) == {
        "queues": [
            {"queue": "one", "runnable": 2, "oldest_runnable_at": at, "jobs": NONE | {"pending": 3, "failed": 5}},
            {"queue": "two", "runnable": 0, "oldest_runnable_at": None, "jobs": NONE | {"pending": 4}},
        ],
        "kinds": [{"kind": "a", "jobs": NONE | {"pending": 7}}, {"kind": "b", "jobs": NONE | {"failed": 5}}],
        "nodes": [{"name": "host:1", "running": 7, "started_at": at, "seen_at": at}],
    }


def test_an_empty_database(invoke: Invoke, database: Database) -> None:
    assert document(invoke("status", "--json")) == {"queues": [], "kinds": [], "nodes": []}
    assert "NODE  RUNNING  STARTED  LAST SEEN" in succeeded(invoke("status"))


def test_a_queue_with_jobs(invoke: Invoke, database: Database, folder) -> None:
    for _ in range(2):
        succeeded(invoke("job", "spawn", "app_jobs:fail", 1))
    lines = [line.split() for line in succeeded(invoke("status")).splitlines()]
    assert ["app_jobs.fail", "0", "2", "0", "0", "0", "0"] in lines
    (queue,) = document(invoke("status", "--json"))["queues"]
    assert (queue["queue"], queue["runnable"], queue["jobs"]) == ("slow", 2, NONE | {"pending": 2})
