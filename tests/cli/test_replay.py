"""`callboard job errors` and `callboard job replay`; `job list` by metadata and error."""

import pytest

from .support import Database, Invoke, document, succeeded


@pytest.fixture
def failures(invoke: Invoke, database: Database, folder) -> list[str]:
    """Two jobs that have failed by a ValueError, and one by something else."""
    ids = []
    for number, error in enumerate(("ValueError", "ValueError", "KeyError")):
        metadata = f'metadata={{"tenant": "acme", "n": {number}}}'
        spawned = document(invoke("job", "spawn", "app_jobs:fail", number, "-o", metadata, "--json"))
        ids.append(spawned["id"])
        database.execute(
            f"UPDATE callboard.jobs SET status = 'failed', turn = NULL, finished_at = now(),"
            f" stop_reason = 'not_retryable',"
            f' error = \'{{"type": "{error}", "message": "no", "traceback": null}}\' WHERE id = \'{ids[-1]}\''
        )
    return ids


def listed(invoke: Invoke, *words: object) -> list[str]:
    return [job["id"] for job in document(invoke("job", "list", "--json", *words))["jobs"]]


def test_jobs_are_found_by_metadata_and_error(invoke: Invoke, failures: list[str]) -> None:
    assert listed(invoke, "--metadata", "tenant=acme") == failures[::-1]
    assert listed(invoke, "--metadata", "tenant=acme", "--metadata", "n=1") == [failures[1]]
    assert listed(invoke, "--status", "failed", "--error", "KeyError") == [failures[2]]
    assert listed(invoke, "--metadata", "n=one") == []
    assert invoke("job", "list", "--metadata", "tenant").exit_code == 2


def test_failures_are_counted_and_replayed_once(invoke: Invoke, database: Database, failures: list[str]) -> None:
    counts = document(invoke("job", "errors", "--json"))["errors"]
    assert {(count["error_type"], count["jobs"]) for count in counts} == {("ValueError", 2), ("KeyError", 1)}
    assert {count["kind"] for count in counts} == {"app_jobs.fail"}
    assert succeeded(invoke("job", "replay", "--error", "ValueError")) == "2 failed jobs were replayed\n"
    assert succeeded(invoke("job", "replay", "--error", "ValueError")) == "0 failed jobs were replayed\n"
    assert "ValueError" not in succeeded(invoke("job", "errors"))
    assert "ValueError" in succeeded(invoke("job", "errors", "--all"))
    assert database.jobs == 5
    copies = listed(invoke, "--status", "pending", "--owner", "ada")
    assert len(copies) == 2
    shown = document(invoke("job", "show", copies[0], "--json"))["job"]
    assert shown["metadata"]["retry_of"] == failures[0]
    assert shown["arguments"] == {"number": 0}


def test_replaying_everything_must_be_said(invoke: Invoke, database: Database, failures: list[str]) -> None:
    assert invoke("job", "replay").exit_code == 2
    assert database.jobs == 3
    replayed = document(invoke("job", "replay", "--all", "--limit", 1, "--json"))["jobs"]
    assert [(one["id"], one["outcome"]) for one in replayed] == [(failures[2], "copied")]
    assert succeeded(invoke("job", "replay", "--all")) == "2 failed jobs were replayed\n"
