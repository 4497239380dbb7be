"""A command line, a folder with a module of jobs, and a look at what was written."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callboard.actors.jobs.definition import default_registry
from callboard.cli import main
from tests.cli.support import JOBS, Database, Invoke
from tests.cli.worker_family import MORE_JOBS


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the test's own. Those of the tests themselves stay."""
    for name in list(os.environ):
        if name.startswith("CALLBOARD_") and not name.startswith(("CALLBOARD_TEST_", "CALLBOARD_POSTGRES_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands import modules, register jobs and set up the log of their process, which here is the tests'."""
    modules, jobs, root = set(sys.modules), dict(default_registry._jobs), logging.getLogger()
    handlers, level, alembic_level = list(root.handlers), root.level, logging.getLogger("alembic").level
    monkeypatch.setattr(sys, "path", list(sys.path))
    default_registry._jobs.clear()
    yield
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "").name.startswith("app_"):
            del sys.modules[name]
    default_registry._jobs.clear()
    default_registry._jobs.update(jobs)
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(alembic_level)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the module ``app_jobs``."""
    (tmp_path / "app_jobs.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def invoke() -> Invoke:
    def run(*words: object, **environment: str) -> Result:
        return CliRunner(env=environment).invoke(main, [str(word) for word in words], prog_name="callboard")

    return run


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A migrated database, which ``CALLBOARD_DATABASE_URL`` names."""
    monkeypatch.setenv("CALLBOARD_DATABASE_URL", database_url)
    return Database(database_url)


@pytest.fixture
def app(folder: Path) -> Path:
    """The current directory, with the modules ``app_jobs`` and ``app_processes``."""
    (folder / "app_processes.py").write_text(MORE_JOBS)
    return folder
