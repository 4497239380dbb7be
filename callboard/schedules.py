"""Schedules as a running program makes, pauses and lists them: ``runtime.schedules``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callboard.actors.errors import ConfigurationError
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.spawning import Spawnable, Spawning
from callboard.actors.schedules.calls import new_schedule
from callboard.actors.schedules.types import Schedule, ScheduleRecord


class Schedules:
    """Schedules, over all nodes; the leader spawns their jobs.

    Args:
        store: returns the store, if the runtime runs.
        spawning: checks calls.
        actor: who does it.
    """

    def __init__(self, store: Callable[[], JobStore], spawning: Spawning, actor: str) -> None:
        self._store = store
        self._spawning = spawning
        self._actor = actor

    async def create(
        self,
        name: str,
        job: Spawnable,
        schedule: str | Schedule,
        /,
        *args: Any,
        replace: bool = False,
        **kwargs: Any,
    ) -> None:
        """Spawn a job again and again from now on. Durable on return.

        Args:
            name: the schedule's, unique in the database; 1 to 200 printable characters.
            job: a function decorated with ``@job``, or ``job.options(...)``.
            schedule: a cron text, or a ``Schedule``.
            *args: the job's positional arguments.
            replace: whether to take the place of a schedule of this name; default False.
            **kwargs: its keyword arguments, and options, as for ``spawn``.

        Raises:
            ConfigurationError: the schedule or an option is wrong, or the name is taken. Nothing was written.
            InvalidArguments, PayloadTooLarge: as for ``spawn``.
            StoreUnavailable: the database cannot be reached.
        """
        when = schedule if isinstance(schedule, Schedule) else Schedule(schedule)
        new = new_schedule(self._spawning, name, job, when, args, kwargs)
        await self._store().schedules.put(new, actor=self._actor, replace=replace)

    async def pause(self, name: str) -> None:
        """Let a schedule spawn nothing. What would have come meanwhile is left out.

        Raises:
            ConfigurationError: there is no such schedule.
        """
        await self._set_paused(name, paused=True)

    async def resume(self, name: str) -> None:
        """Let a paused schedule go on from now.

        Raises:
            ConfigurationError: there is no such schedule.
        """
        await self._set_paused(name, paused=False)

    async def delete(self, name: str) -> bool:
        """Delete a schedule; False if there was none. One from code comes back with the next worker that has it."""
        return await self._store().schedules.delete(name)

    async def list(self) -> list[ScheduleRecord]:
        """Return all schedules, by name; ``record.upcoming(5)`` are the next five moments of one."""
        return await self._store().schedules.read()

    async def _set_paused(self, name: str, *, paused: bool) -> None:
        if not await self._store().schedules.set_paused(name, paused=paused, actor=self._actor):
            raise ConfigurationError(f"no schedule has the name {name!r}; `callboard schedule list` shows them")
