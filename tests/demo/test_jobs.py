"""The jobs, called as the functions they are."""

import os
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from callboard import Abort, JobContext
from callboard.actors.jobs.definition import default_registry
from callboard.actors.jobs.types import ClaimedJob
from callboard.demo import jobs
from callboard.demo.library import digest, measure


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text("def f(): ...\n")
    return path


class Reports:
    """Takes a job's progress, and changes the file when a report comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: list[dict[str, Any]] = []

    def progress(self, attempt: object, progress: dict[str, Any]) -> None:
        self.reports.append(progress)
        os.utime(self.path, ns=(0, 0))


def context(attempt: int = 1, services: object = None) -> JobContext:
    claimed = ClaimedJob(uuid4(), "kind", "queue", attempt, 4, attempt, "{}", None, None, None, None, 0.0)
    return JobContext(claimed, cast(Any, services))


def test_a_worker_finds_the_jobs_by_importing_the_module() -> None:
    kinds = {kind for kind in default_registry.kinds() if kind.startswith("callboard.demo.jobs.")}
    assert {kind.rpartition(".")[2] for kind in kinds} == {
        "count_package",
        "hash_flaky_file",
        "hash_module",
        "parse_module",
        "wait_for_change",
    }


async def test_a_file_is_hashed(module: Path) -> None:
    assert await jobs.hash_module(module) == digest(module)


async def test_a_missing_file_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Abort, match=r"gone\.py does not exist"):
        await jobs.hash_module(tmp_path / "gone.py")


async def test_a_flaky_file_is_read_after_its_failures(module: Path) -> None:
    for attempt in (1, 2):
        with pytest.raises(OSError, match=f"attempt {attempt} of 4"):
            await jobs.hash_flaky_file(context(attempt), module, 2)
    assert await jobs.hash_flaky_file(context(3), module, 2) == digest(module)


def test_a_module_is_parsed(module: Path) -> None:
    assert jobs.parse_module(module) == measure(module)


async def test_a_change_ends_the_wait(module: Path) -> None:
    services = Reports(module)
    assert await jobs.wait_for_change(context(services=services), module) == len(services.reports) == 1
