"""A worker as a process of its own: `python -m tests.runtime.worker_process URL LEASE_SECONDS`.

Prints ``ready``, then works until it is killed, or stops in order at the end of its standard input.
"""

import asyncio
import sys

from callboard import Runtime, Settings
from tests.runtime.worker_jobs import REGISTRY


async def main(url: str, lease_seconds: float) -> None:
    settings = Settings(
        database_url=url,
        queues={"default": 8},
        lease_seconds=lease_seconds,
        hang_limit_seconds=lease_seconds / 2,
        rescue_interval_seconds=0.2,
        poll_interval_seconds=0.1,
        retry_initial_seconds=0.01,
        retry_max_seconds=0.02,
    )
    async with Runtime(settings, registry=REGISTRY):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
