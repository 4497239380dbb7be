"""A node with schedules that dies on demand: `python -m tests.runtime.schedule_process URL NAME`.

Prints ``ready``. A line ``die STEP`` on its standard input lets it kill itself (-9) the next time that it, as the
leader, has come to this step of a tick: ``begun`` (nothing has been asked for), ``spawned`` (the job is inserted, and
nothing committed), ``advanced`` (the schedule is moved on as well, and nothing committed), ``committed`` (the answer
of the commit has come; other schedules are due, too) or ``fired`` (all that was due is done, and not counted). It
prints ``armed``. It stops in order at the end of its input.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from callboard import JobRegistry, Runtime, Settings, job
from callboard.persistence.schedules import PostgresSchedules

REGISTRY = JobRegistry()
STEPS = ("begun", "spawned", "advanced", "committed", "fired")
armed: set[str] = set()


@job(kind="scheduled", registry=REGISTRY)
async def scheduled() -> None:
    """Do nothing."""


def die_at(step: str) -> None:
    if step in armed:
        os.kill(os.getpid(), signal.SIGKILL)


def dying(method: Callable[..., Any], *, before: str | None = None, after: str | None = None) -> Callable[..., Any]:
    """Return the method with a step before or after it."""

    async def step(self: PostgresSchedules, *args: Any, **kwargs: Any) -> Any:
        if before is not None:
            die_at(before)
        answer = await method(self, *args, **kwargs)
        if after is not None and answer is not None:
            die_at(after)
        return answer

    return step


def patch(schedules: type[PostgresSchedules]) -> None:
    spawn_and_advance = schedules._spawn_and_advance

    async def with_spawn_watched(self: PostgresSchedules, *args: Any) -> Any:
        spawn = self._spawn

        async def watched(*jobs: Any, **options: Any) -> Any:
            spawned = await spawn(*jobs, **options)
            die_at("spawned")
            return spawned

        self._spawn = watched
        try:
            answer = await spawn_and_advance(self, *args)
        finally:
            self._spawn = spawn
        die_at("advanced")
        return answer

    schedules._spawn_and_advance = with_spawn_watched
    schedules.fire = dying(schedules.fire, before="begun")
    fire = schedules.fire

    async def with_commits_watched(self: PostgresSchedules, **options: Any) -> Any:
        run = self._run

        async def watched(operation: str, body: Any) -> Any:
            answer = await run(operation, body)
            if answer is not None:
                die_at("committed")
            return answer

        self._run = watched
        try:
            fired = await fire(self, **options)
        finally:
            self._run = run
        if fired:
            die_at("fired")
        return fired

    schedules.fire = with_commits_watched


async def main(url: str, name: str) -> None:
    patch(PostgresSchedules)
    settings = Settings(database_url=url, node_name=name, pg_pool_size=3)
    async with Runtime(settings, registry=REGISTRY):
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, step = line.split()
            assert word == "die", line
            assert step in STEPS, line
            armed.add(step)
            print("armed", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
