"""The job of the nodes in ``bench.failover``: it blocks its worker's event loop."""

from __future__ import annotations

import time
from pathlib import Path

from callboard import job


@job(kind="bench.hang", max_attempts=1)
async def hang(seconds: float, began: Path) -> None:
    """Let nothing else happen in this process; write down when that began."""
    began.write_text(str(time.monotonic()))  # noqa: ASYNC240 - in a moment it blocks anyway
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point
