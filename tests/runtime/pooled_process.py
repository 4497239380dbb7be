"""A worker behind a pooler: `python -m tests.runtime.pooled_process POOLED_URL DIRECT_URL|none NAME`.

Prints ``ready``, then works until it is killed, or its standard input ends. A provider of LLM batches is where the
environment says.
"""

import asyncio
import logging
import sys

from callboard import JobContext, JobRegistry, Runtime, Schedule, Settings, job

REGISTRY = JobRegistry()


@job(kind="pooled.double", registry=REGISTRY)
async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@job(kind="pooled.square", registry=REGISTRY)
def square(number: int) -> int:
    """Return the square, from a thread."""
    return number * number


@job(kind="pooled.family", registry=REGISTRY)
async def family(ctx: JobContext) -> int:
    """Wait for children; tell how far it is."""
    ctx.progress(step=1)
    base = await ctx.step("base", lambda: 1)
    return sum(await ctx.map(square, [(base,), (2,), (3,)]))


@job(kind="pooled.ask", registry=REGISTRY)
async def ask(ctx: JobContext) -> str:
    """Wait for a model's reply."""
    reply = await ctx.llm_batch({"messages": [{"role": "user", "content": "one two"}]}, key="reply")
    return str(reply["content"][0]["text"])


@job(kind="pooled.endless", registry=REGISTRY)
async def endless() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


@job(kind="pooled.tick", schedule=Schedule(interval_seconds=1, misfire="all"), registry=REGISTRY)
async def tick() -> None:
    """Come each second."""


def settings(url: str, direct_url: str | None, name: str | None = None) -> Settings:
    return Settings(
        database_url=url,
        direct_database_url=direct_url,
        node_name=name,
        pg_pool_size=4,
        enable_batch_job_polling=True,
        poll_running_llm_batches_interval_seconds=0.2,
        llm_batch_window_seconds=0.2,
    )


async def main(url: str, direct_url: str, name: str) -> None:
    async with Runtime(settings(url, None if direct_url == "none" else direct_url, name), registry=REGISTRY):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(*sys.argv[1:]))
