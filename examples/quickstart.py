"""Summarize three documents, one of which needs a second try.

Start a database and a worker that knows this file's job in one terminal::

    callboard dev examples.quickstart

and spawn the jobs in another, which the first one tells how to find the database::

    export CALLBOARD_DATABASE_URL="$(cat .callboard/url)"
    python -m examples.quickstart
"""

import asyncio
from dataclasses import dataclass

from callboard import JobContext, Retry, Runtime, job

DOCUMENTS = {
    1: "All the world's a stage, and all the men and women merely players.",
    2: "They have their exits and their entrances.",
    3: "And one man in his time plays many parts.",
}


@dataclass
class Summary:
    """What is worth knowing of a document."""

    document: int
    words: int
    beginning: str


@job(max_attempts=3, timeout_seconds=10)
async def summarize(ctx: JobContext, document: int, length: int = 12) -> Summary:
    """Summarize one document; pretend that the model is busy the first time somebody asks for the second one."""
    if document == 2 and ctx.attempt == 1:
        raise Retry("the model is busy", delay_seconds=0.1)
    text = DOCUMENTS[document]
    return Summary(document, len(text.split()), text[:length])


async def main() -> None:
    """Spawn the jobs, let the worker run them, print what they return."""
    async with Runtime(work=False) as runtime:
        refs = await runtime.spawn_many(summarize, [(document,) for document in DOCUMENTS])
        for ref in refs:
            print(await ref.result(timeout=30))
        print(f"document 2 took {(await refs[1].record()).attempt} attempts")


if __name__ == "__main__":
    asyncio.run(main())
