"""A process with batches: `python -m tests.runtime.batch_process URL submit PROVIDER ITEMS` or `... URL work`.

``submit`` submits one batch, says its id, and ends. ``work`` polls until it is killed, or its standard input ends. The
providers are where the environment says, which may also give another timeout of their requests.
"""

import asyncio
import os
import sys

from callboard import JobRegistry, Runtime, Settings


async def main(url: str, what: str, *words: str) -> None:
    settings = Settings(
        database_url=url,
        enable_batch_job_polling=True,
        poll_running_llm_batches_interval_seconds=0.2,
        llm_request_timeout_seconds=float(os.environ.get("CALLBOARD_LLM_REQUEST_TIMEOUT_SECONDS", "1")),
        poll_interval_seconds=0.1,
        pg_pool_size=3,
    )
    async with Runtime(settings, work=what == "work", registry=JobRegistry()) as runtime:
        if what == "submit":
            provider, items = words
            ref = await runtime.submit_batch(
                provider,
                [
                    {"custom_id": f"item {n}", "params": {"messages": [{"role": "user", "content": f"prompt {n}"}]}}
                    for n in range(int(items))
                ],
            )
            print(ref.id, flush=True)
        else:
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
