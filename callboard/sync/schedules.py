"""Schedules, for code without an event loop."""

from __future__ import annotations

from typing import Any

from callboard import schedules as asynchronous
from callboard.actors.jobs.definition import ConfiguredJob, JobDefinition
from callboard.actors.schedules.types import Schedule, ScheduleRecord

from .loop_thread import LoopThread


class Schedules:
    """``runtime.schedules`` for code without an event loop. See ``callboard.schedules.Schedules``."""

    def __init__(self, thread: LoopThread, schedules: asynchronous.Schedules) -> None:
        self._thread = thread
        self._schedules = schedules

    def create(
        self,
        name: str,
        job: JobDefinition[Any, Any] | ConfiguredJob[Any, Any],
        schedule: str | Schedule,
        /,
        *args: Any,
        replace: bool = False,
        **kwargs: Any,
    ) -> None:
        """Spawn a job again and again from now on."""
        self._thread.wait_for(self._schedules.create(name, job, schedule, *args, replace=replace, **kwargs))

    def pause(self, name: str) -> None:
        """Let a schedule spawn nothing."""
        self._thread.wait_for(self._schedules.pause(name))

    def resume(self, name: str) -> None:
        """Let a paused schedule go on from now."""
        self._thread.wait_for(self._schedules.resume(name))

    def delete(self, name: str) -> bool:
        """Delete a schedule; False if there was none."""
        return self._thread.wait_for(self._schedules.delete(name))

    def list(self) -> list[ScheduleRecord]:
        """Return all schedules, by name."""
        return self._thread.wait_for(self._schedules.list())
