"""Processes that have to do with batches, a look into their database, and a way to stop them at a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.support.faulty_provider import FaultyProvider
from tests.support.waiting import wait_until

PATIENCE_SECONDS = 90

_WAITERS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def environment(server: FaultyProvider, **others: str) -> dict[str, str]:
    """Return the environment of a process whose providers are the stand-in."""
    return {
        **os.environ,
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_API_KEY": "test",
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_KEY": "test",
        **others,
    }


@contextmanager
def process(server: FaultyProvider, module: str, *words: str, name: str = "node") -> Iterator[subprocess.Popen[str]]:
    """Run ``python -m module words``, as a node of this name; it is killed in the end."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, env=environment(server, CALLBOARD_NODE_NAME=name), text=True, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def batch_process(url: str, server: FaultyProvider, *words: str, name: str = "node") -> Iterator[subprocess.Popen[str]]:
    """Run ``batch_process.py``: it submits, or works."""
    with process(server, "tests.runtime.batch_process", url, *words, name=name) as running:
        yield running


def kill(process: subprocess.Popen[str]) -> None:
    """Kill it as ``kill -9`` does."""
    process.kill()
    process.wait()


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Return what a statement finds."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    wait_until(condition, timeout_seconds=PATIENCE_SECONDS, interval_seconds=0.1)


@contextmanager
def locked(url: str, statement: str) -> Iterator[Callable[[], None]]:
    """Hold a lock; yields a function that waits until somebody waits for it."""
    with psycopg.connect(url) as holder:
        holder.execute(statement)
        yield lambda: eventually(lambda: rows(url, _WAITERS) != [(0,)])


def no_session_is_left(url: str) -> None:
    """Wait until the server has ended the sessions of those that were killed."""
    eventually(lambda: rows(url, _OTHERS) == [(0,)])


def ended(url: str) -> bool:
    """Tell whether the one batch there is has completed."""
    return rows(url, "SELECT count(*) FROM callboard.batches WHERE status = 'completed'") == [(1,)]


def leader(url: str) -> str:
    """Return the name of the node that leads; empty if none does."""
    [(holder,)] = rows(url, "SELECT holder FROM callboard.leadership") or [(None,)]
    return str(holder or "").partition(":")[0]


def moments(url: str) -> dict[int, Any]:
    """Return when each item got its outcome."""
    statement = "SELECT position, updated_at FROM callboard.batch_items WHERE updated_at IS NOT NULL"
    return dict(rows(url, statement))


def require_every_result(url: str, count: int) -> None:
    """Accept a batch of which every item has its own result."""
    found = rows(url, "SELECT custom_id, status, CAST(result AS text) FROM callboard.batch_items ORDER BY position")
    assert [(custom_id, status) for custom_id, status, _ in found] == [(f"item {n}", "succeeded") for n in range(count)]
    assert all(f"2 words: prompt {n}" in json.dumps(json.loads(result)) for n, (_, _, result) in enumerate(found))
