"""The examples are run as their docstrings say."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

import examples.quickstart
from callboard import Runtime, Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.processes
async def test_quickstart(database_url: str) -> None:
    assert examples.quickstart.summarize.kind == "examples.quickstart.summarize"
    async with Runtime(Settings(database_url=database_url, poll_interval_seconds=0.1)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.quickstart"),
            cwd=ROOT,
            env=os.environ | {"CALLBOARD_DATABASE_URL": database_url},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().splitlines() == [
        'Summary(document=1, words=13, beginning="All the worl")'.replace('"', "'"),
        "Summary(document=2, words=7, beginning='They have th')",
        "Summary(document=3, words=9, beginning='And one man ')",
        "document 2 took 2 attempts",
    ]
