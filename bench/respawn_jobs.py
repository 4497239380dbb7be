"""The job that keeps worker processes busy while ``bench.respawn`` kills them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from callboard import job

JOB_SECONDS: Final = 0.05

_seen: list[bool] = []


@job(kind="bench.busy", queue="respawn", max_attempts=1000)
async def busy(file: Path) -> None:
    """Wait a little; the first of a process writes down whose it is and when it began."""
    if not _seen:
        _seen.append(True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{os.getpid()} {time.time()}\n")
    await asyncio.sleep(JOB_SECONDS)
