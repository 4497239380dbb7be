"""The job of the nodes in ``bench.failover``: it blocks its worker's event loop."""

from __future__ import annotations

import time
from pathlib import Path

from callboard import job

LONGEST_SECONDS = 150.0


@job(kind="bench.hang", max_attempts=1)
async def hang(began: Path, over: Path) -> None:
    """Let nothing else happen in this process until the file ``over`` exists; write down when that began."""
    start = time.monotonic()
    began.write_text(str(start))  # noqa: ASYNC240 - in a moment it blocks anyway
    while not over.exists() and time.monotonic() < start + LONGEST_SECONDS:  # noqa: ASYNC240
        time.sleep(0.02)  # noqa: ASYNC251 - that is the point
