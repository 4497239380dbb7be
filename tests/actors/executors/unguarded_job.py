"""A script without the guard: where a child process imports it for its job, it starts a runtime."""

import asyncio
import sys

from callboard import JobRegistry, job
from callboard.testing import MemoryRuntime

REGISTRY = JobRegistry()


@job(executor="process", registry=REGISTRY)
def unguarded() -> None: ...


async def main() -> None:
    async with MemoryRuntime():
        pass


if sys.argv[0] == "-c":  # the tests import it, too
    asyncio.run(main())
