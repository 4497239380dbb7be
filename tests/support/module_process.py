"""Python programs of the tests' own, run beside them."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


@contextlib.asynccontextmanager
async def module_process(
    module: str,
    *words: object,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    stderr: int | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``python -m module words``, which prints ``ready`` when it is; kill it in the end, where it still runs.

    Args:
        module: with dots.
        words: its arguments.
        prefix: what runs the command, such as ``ip netns exec``.
        environment: variables beside those of the tests.
        stderr: where its log goes; by default where the tests' goes.
    """
    process = await asyncio.create_subprocess_exec(
        *(*prefix, sys.executable, "-m", module, *map(str, words)),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    try:
        assert await asyncio.wait_for(process.stdout.readline(), START_SECONDS) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
