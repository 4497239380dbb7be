"""What a worker process is told, and what it makes of it before it works."""

import json
from pathlib import Path

import pytest

from callboard import ConfigurationError, Settings, StoreUnavailable
from callboard.actors.clock import SystemClock
from callboard.cli.assignment import Assignment, Preparation, settings_document
from callboard.cli.worker_process import check_memory, wait_for_store
from callboard.cli.worker_program import beat_interval_seconds, stop_timeout_seconds
from callboard.persistence import stores

PREPARATION = Preparation(
    number=None,
    modules=("app.jobs", "app.more"),
    listening=(6, 7),
    memory_limit_bytes=None,
    beat_interval_seconds=1.0,
    log_level="info",
    log_format="json",
    verbose=False,
)
ASSIGNMENT = Assignment(
    number=2,
    settings={},
    node="here:1.2:abc",
    ended_nodes=("here:1.2:old",),
    listening=7,
    restarted=True,
)


def test_preparation_and_assignment_travel_as_json() -> None:
    assert Preparation.of(json.loads(json.dumps(PREPARATION.document()))) == PREPARATION
    assert Assignment.of(json.loads(json.dumps(ASSIGNMENT.document()))) == ASSIGNMENT


def test_settings_arrive_as_they_were_the_defaults_as_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBOARD_LEASE_SECONDS", "12")
    settings = Settings(
        database_url="postgresql://ada:secret@127.0.0.1/jobs",
        queues={"cpu": 4},
        metrics_port=None,
        admin_socket_directory=Path("/run/callboard"),
    )
    document = json.loads(json.dumps(settings_document(settings)))
    monkeypatch.delenv("CALLBOARD_LEASE_SECONDS")
    arrived = Settings(**document)
    assert arrived == settings
    assert arrived.model_fields_set == settings.model_fields_set


def test_a_memory_limit_below_what_a_process_needs_is_refused() -> None:
    check_memory(None)
    check_memory(2**40)
    with pytest.raises(ConfigurationError, match=r"--memory-limit 10 bytes: a process that runs no job yet uses \d+"):
        check_memory(10)


def test_how_often_a_process_beats_and_how_long_it_may_end() -> None:
    assert beat_interval_seconds(Settings(hang_limit_seconds=15)) == 1.0
    assert beat_interval_seconds(Settings(hang_limit_seconds=2)) == 0.5
    assert stop_timeout_seconds(Settings(drain_timeout_seconds=25, cancel_grace_seconds=0.5)) == 34.0


async def test_one_that_is_started_again_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = stores.memory(SystemClock())
    outcomes: list[Exception | None] = [StoreUnavailable("it starts"), StoreUnavailable("it starts"), None]
    calls: list[str] = []

    async def open_store() -> None:
        calls.append("open")
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    async def close_store() -> None:
        calls.append("close")

    monkeypatch.setattr(parts.store, "open", open_store)
    monkeypatch.setattr(parts.store, "close", close_store)
    monkeypatch.setattr(stores, "postgres", lambda *_: parts)
    await wait_for_store(Settings(), interval_seconds=0.0)
    assert calls == ["open", "open", "open", "close"]
