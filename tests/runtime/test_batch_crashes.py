"""Processes that die by kill -9 with a batch in their hands: it is paid for once, and each result is stored once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.support.faulty_provider import FaultyProvider, Hold
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.chaos]

ITEMS = 1_200
PATIENCE_SECONDS = 90
LOST = [
    ("anthropic", "anthropic_create", True, 1),
    ("anthropic", "anthropic_create", False, 1),
    ("openai", "openai_upload", False, 1),
    ("openai", "openai_create", False, 1),
]
"""Provider, the call in which the process is killed, whether before the provider has done it, batches in the end."""


@contextmanager
def process(url: str, server: FaultyProvider, *words: str) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_API_KEY": "test",
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_KEY": "test",
    }
    command = [sys.executable, "-m", "tests.runtime.batch_process", url, *words]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def ended(url: str) -> bool:
    return rows(url, "SELECT count(*) FROM callboard.batches WHERE status = 'completed'") == [(1,)]


def require_every_result(url: str, count: int) -> None:
    found = rows(url, "SELECT custom_id, status, CAST(result AS text) FROM callboard.batch_items ORDER BY position")
    assert [(custom_id, status) for custom_id, status, _ in found] == [(f"item {n}", "succeeded") for n in range(count)]
    assert all(f"2 words: prompt {n}" in json.dumps(json.loads(result)) for n, (_, _, result) in enumerate(found))


@pytest.mark.parametrize(("provider", "call", "before", "batches"), LOST)
def test_promise_8_a_submitter_killed_in_the_middle_costs_no_second_batch(
    database_url: str, provider: str, call: str, before: bool, batches: int
) -> None:
    hold = Hold(before=before)
    with FaultyProvider() as server:
        server.script(call, hold)
        with process(database_url, server, "submit", provider, "7") as submitter:
            assert hold.reached.wait(PATIENCE_SECONDS)
            submitter.kill()
            submitter.wait()
        assert rows(database_url, "SELECT status FROM callboard.batches") == [("submitting",)]
        if before:  # what had not arrived never will
            hold.refuse()
        else:
            hold.release()
        for hosted in server.batches.all():
            server.batches.look(hosted.id)
        with process(database_url, server, "work"):
            wait_until(lambda: ended(database_url), timeout_seconds=PATIENCE_SECONDS, interval_seconds=0.1)
        assert len(server.batches.all()) == batches
    require_every_result(database_url, 7)


@pytest.mark.parametrize(("provider", "call"), [("anthropic", "anthropic_results"), ("openai", "openai_content")])
def test_promise_8_a_poller_killed_in_the_middle_of_the_results_loses_none(
    database_url: str, provider: str, call: str
) -> None:
    hold = Hold(after_lines=ITEMS - 100)
    collected = "SELECT collected_items FROM callboard.batches"
    moments = "SELECT position, updated_at FROM callboard.batch_items WHERE updated_at IS NOT NULL"
    with FaultyProvider() as server:
        server.script(call, hold)
        with process(database_url, server, "submit", provider, str(ITEMS)) as submitter:
            assert submitter.wait(PATIENCE_SECONDS) == 0
        with process(database_url, server, "work") as poller:
            assert hold.reached.wait(PATIENCE_SECONDS)
            wait_until(lambda: rows(database_url, collected) >= [(500,)], timeout_seconds=PATIENCE_SECONDS)
            poller.kill()
            poller.wait()
        before = dict(rows(database_url, moments))
        assert 500 <= len(before) < ITEMS
        assert not ended(database_url)
        hold.release()
        with process(database_url, server, "work"):
            wait_until(lambda: ended(database_url), timeout_seconds=PATIENCE_SECONDS, interval_seconds=0.1)
        assert len(server.batches.all()) == 1
    assert before.items() <= dict(rows(database_url, moments)).items()
    require_every_result(database_url, ITEMS)
