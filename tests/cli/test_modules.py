"""Modules that do not import: named, with the error and what to do; nothing is started or written."""

from pathlib import Path

import pytest

from .support import Database, Invoke, error_of

COMMANDS = {
    "worker": ["worker", "{}"],
    "dev": ["dev", "{}"],
    "spawn": ["job", "spawn", "anything", "--import", "{}"],
    "spawn by module": ["job", "spawn", "{}:anything"],
}
TWICE = """
from callboard import job

@job(kind="same")
async def one() -> None: ...

@job(kind="same")
async def two() -> None: ...
"""


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (None, ["No module named 'app_broken'", "Looked in the current directory"]),
        ("import app_absent", ["No module named 'app_absent'", "`python -c 'import app_broken'` works here"]),
        ("def (", ["SyntaxError: invalid syntax"]),
        ("raise RuntimeError('no such\\nkey')", ["RuntimeError: no such key"]),
        ("import sys; sys.exit('usage')", ["SystemExit: usage"]),
        (TWICE, ["two jobs of kind 'same': app_broken.one", "app_broken.two", "give one of them another kind"]),
        (
            "from callboard import job\n@job(executor='async')\ndef plain(): ...",
            ["executor 'async' needs an `async def`"],
        ),
    ],
    ids=["missing", "imports what is missing", "syntax", "raises", "exits", "duplicate kind", "bad job"],
)
def test_a_module_that_does_not_import(
    invoke: Invoke, database: Database, folder: Path, words, source: str | None, messages: list[str]
) -> None:
    if source is not None:
        (folder / "app_broken.py").write_text(source)
    result = invoke(*(word.format("app_broken") for word in words))
    error = error_of(result)
    assert error.startswith("cannot import app_broken: ")
    assert error.endswith("Nothing was started")
    assert [message for message in messages if message not in error] == []
    assert result.exit_code == 78
    assert database.is_untouched
    assert not (folder / ".callboard").exists()


def test_the_users_own_traceback_is_there_on_demand(invoke: Invoke, database: Database, folder: Path) -> None:
    (folder / "app_broken.py").write_text("1 / 0")
    result = invoke("worker", "app_broken", "--verbose")
    assert 'app_broken.py", line 1, in <module>' in result.stderr


def test_a_path_is_not_a_module(invoke: Invoke, database: Database, folder: Path) -> None:
    (folder / "app").mkdir()
    assert "Write the module's name instead of a path: app.jobs" in error_of(invoke("worker", "app/jobs.py"))
    assert "Write the module's name instead of a path: app_jobs" in error_of(invoke("worker", "./app_jobs.py"))


@pytest.mark.parametrize("command", ["worker", "dev"])
def test_a_module_without_jobs(invoke: Invoke, database: Database, folder: Path, command: str) -> None:
    (folder / "app_empty.py").touch()
    result = invoke(command, "app_empty")
    assert "no job is defined in app_empty: a worker runs functions decorated with @job()" in error_of(result)
    assert result.exit_code == 78
    assert database.is_untouched


def test_a_worker_needs_a_module(invoke: Invoke, database: Database) -> None:
    result = invoke("worker")
    assert "Missing argument 'MODULE...'" in result.stderr
    assert result.exit_code == 2
