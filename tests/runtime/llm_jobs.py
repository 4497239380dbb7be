"""Jobs that ask a model, and a worker process for them: `python -m tests.runtime.llm_jobs URL WINDOW_SECONDS`.

The provider is where the environment says. The process prints `ready`, then works until it is killed, or its standard
input ends.
"""

import asyncio
import sys
from pathlib import Path

from callboard import JobContext, JobRegistry, LlmRequestFailed, Runtime, Settings, job

REGISTRY = JobRegistry()


def prompt(words: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": words}]}


def note(path: Path, line: str) -> str:
    with path.open("a") as file:
        file.write(line + "\n")
    return line


@job(registry=REGISTRY, kind="tests.draft", max_attempts=3)
async def draft(ctx: JobContext, journal: Path, words: str) -> str:
    """Do something once, ask a model, do something else once."""
    await ctx.step("before", note, journal, f"before {words}")
    reply = await ctx.llm_batch(prompt(words), key="draft")
    await ctx.step("after", note, journal, f"after {words}")
    return str(reply["content"][0]["text"])


@job(registry=REGISTRY, kind="tests.careful", max_attempts=3)
async def careful(ctx: JobContext) -> list[str]:
    """Ask, and take a failure for an answer."""
    try:
        await ctx.llm_batch(prompt("careful"), key="draft")
    except LlmRequestFailed as failure:
        return [failure.key, failure.status]
    return []


@job(registry=REGISTRY, kind="tests.careless", max_attempts=3)
async def careless(ctx: JobContext) -> None:
    """Ask, and let a failure through."""
    await ctx.llm_batch(prompt("careless"), key="draft")


@job(registry=REGISTRY, kind="tests.blocking", executor="thread")
async def blocking(ctx: JobContext) -> str:
    """Ask from a thread of its own."""
    reply = await ctx.llm_batch(prompt("from a thread"), key="draft")
    return str(reply["content"][0]["text"])


def settings(url: str, window_seconds: float) -> Settings:
    return Settings(
        database_url=url,
        enable_batch_job_polling=True,
        poll_running_llm_batches_interval_seconds=0.2,
        llm_batch_window_seconds=window_seconds,
        llm_request_timeout_seconds=5,
        poll_interval_seconds=0.1,
        rescue_interval_seconds=0.2,
        lease_seconds=2,
        pg_pool_size=4,
    )


async def main(url: str, window_seconds: str) -> None:
    async with Runtime(settings(url, float(window_seconds)), registry=REGISTRY):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
