"""The demo's jobs. Any worker can run them: ``callboard worker callboard.demo.jobs --queue ...``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tenacity import wait_random

from callboard import Abort, JobContext, job

from .library import FileDigest, ModuleSize, Tally, digest, measure, modified_at

FLAKY_ATTEMPTS = 4
LOOK_INTERVAL_SECONDS = 0.1
PARSING_MEMORY_BYTES = 512 * 2**20
"""The whole library, parsed in one process, takes a tenth of it."""


@job()
async def hash_module(path: Path) -> FileDigest:
    """Hash a file: bound by input, so a coroutine; a hundred of them wait at a time on one event loop."""
    try:
        return await asyncio.to_thread(digest, path)
    except FileNotFoundError as error:
        raise Abort(f"{path} does not exist, and another attempt would not find it either") from error


@job(max_attempts=FLAKY_ATTEMPTS, retry=wait_random(0.1, 0.5), retry_on=OSError)
async def hash_flaky_file(ctx: JobContext, path: Path, failures: int) -> FileDigest:
    """Hash a file whose first reads fail: a stand-in for every network that drops a request now and then."""
    if ctx.attempt <= failures:
        raise OSError(f"{path}: the disk did not answer (attempt {ctx.attempt} of {ctx.max_attempts})")
    return await asyncio.to_thread(digest, path)


@job(executor="process", memory_limit_bytes=PARSING_MEMORY_BYTES)
def parse_module(path: Path) -> ModuleSize:
    """Parse a module and count its definitions: bound by the processor, so it runs in child processes, on all cores."""
    return measure(path)


@job(priority=-1)
async def count_package(ctx: JobContext, modules: list[Path]) -> Tally:
    """Split a package into a job for each module, and add up their results.

    While the children run this job takes no slot: ``map`` unwinds the function, which is called again from its start
    when the last child has ended. By its priority that is before the next package's children, not behind them all.
    """
    sizes = await ctx.map(parse_module.options(queue=ctx.queue), [(path,) for path in modules], key="parse")
    return sum(map(Tally.of, sizes), Tally())


@job(retry=wait_random(0.1, 0.3))
async def wait_for_change(ctx: JobContext, path: Path) -> int:
    """Return how many looks it took until somebody changed a file. Nobody edits the standard library: it never ends."""
    before, looks = await asyncio.to_thread(modified_at, path), 0
    while await asyncio.to_thread(modified_at, path) == before:
        looks += 1
        ctx.progress(looks)
        await asyncio.sleep(LOOK_INTERVAL_SECONDS)
    return looks
