"""A node of an election, to be killed and stopped: `python -m tests.runtime.leader_process URL NAME WINDOW_SECONDS`.

Prints ``ready``, then does what each line of its standard input says, and prints one line for it: ``prune`` writes as
the leader of the last term that it had; ``hang SECONDS`` blocks its event loop (and prints before it does); ``acts``
tells whether it may act as the leader, and which of its duties there are. It stops in order at the end of the input.
"""

import asyncio
import logging
import sys
import time

from callboard import CallboardError, JobRegistry, Runtime, Settings, job
from callboard.actors.jobs.retention import Retention
from callboard.supervision.leadership import CurrentLeadership, Leadership

REGISTRY = JobRegistry()
DUTIES = ("schedules", "retention", "store_summary")


@job(registry=REGISTRY)
async def nothing() -> None:
    """What a worker must have at least."""


async def main(url: str, name: str, window_seconds: float) -> None:
    settings = Settings(
        database_url=url, node_name=name, leader_trust_window_seconds=window_seconds, pg_pool_size=3, metrics_port=0
    )
    terms: list[Leadership] = []
    begin = CurrentLeadership.begin

    def remember(current: CurrentLeadership, leadership: Leadership) -> None:
        terms.append(leadership)
        begin(current, leadership)

    CurrentLeadership.begin = remember
    async with Runtime(settings, registry=REGISTRY) as runtime:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            match line.split():
                case ["prune"]:
                    print(await prune(runtime, terms[-1].term), flush=True)
                case ["hang", seconds]:
                    print("hangs", flush=True)
                    time.sleep(float(seconds))  # noqa: ASYNC251 - that is the point
                case ["acts"]:
                    print(*acting(runtime, terms), flush=True)
                case _:
                    raise ValueError(f"{line!r}: expected prune, acts or hang SECONDS")


async def prune(runtime: Runtime, term: int) -> str:
    """Write, whatever this process knows of its leadership: only the database may refuse."""
    try:
        await runtime._parts.store.prune(Retention(completed_seconds=1.0), term=term)
    except CallboardError as error:
        return f"{type(error).__name__}: {error}"
    return "pruned"


def acting(runtime: Runtime, terms: list[Leadership]) -> list[str]:
    """Return ``trusted``, where it is, and the names of the duties that run."""
    duties = [name for name in DUTIES if runtime._system.registry.get(name) is not None]
    return [*["trusted"] * terms[-1].trusted, *duties]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
