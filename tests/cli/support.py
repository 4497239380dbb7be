"""What several tests of the command line use."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
from click.testing import Result

Invoke = Callable[..., Result]

JOBS = """
import asyncio
import os
from pathlib import Path

from callboard import JobContext, job


@job()
async def greet(name: str, times: int = 1) -> str:
    return name * times


@job(queue="slow", max_attempts=1, timeout_seconds=60, tags=("red", "blue"), owner="ada")
async def fail(number: int) -> None:
    raise ValueError(f"number {number} \\x1b[31m")


@job()
async def wait_for(folder: Path) -> str:
    (folder / "started").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    return "went"


@job()
async def stubborn(folder: Path) -> str:
    (folder / "started").touch()
    while not (folder / "go").exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            (folder / "told").touch()
    return "went"
"""


class Database:
    """What a command has written."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    @property
    def jobs(self) -> int:
        return self.query("SELECT count(*) FROM callboard.jobs")[0][0]

    @property
    def is_untouched(self) -> bool:
        """Whether there is no job, and no node has said that it works."""
        return self.jobs == 0 and self.query("SELECT count(*) FROM callboard.nodes")[0][0] == 0


def succeeded(result: Result) -> str:
    """Return a command's stdout."""
    assert result.exit_code == 0, result.output
    return result.stdout


def document(result: Result) -> Any:
    """Return the JSON document that a command printed, and nothing else with it, on stdout."""
    return json.loads(result.stdout)


def error_of(result: Result) -> str:
    """Return the one line that a failed command left on stderr."""
    assert result.stdout == ""
    assert result.stderr.startswith("error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").strip()
