"""A worker in a process of its own, to be killed: ``python -m tests.demo.worker_process``.

Its settings come from the environment.
"""

import asyncio

import callboard.demo.jobs  # noqa: F401 - registers the kinds that this worker runs
from callboard import Runtime


async def work() -> None:
    async with Runtime() as runtime:
        await runtime.wait_given_up()


if __name__ == "__main__":
    asyncio.run(work())
