"""Schedules in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from callboard.actors.clock import Clock
from callboard.actors.errors import CallboardError, ConfigurationError
from callboard.actors.jobs.types import NewJob, Spawned
from callboard.actors.schedules.calls import tick_job
from callboard.actors.schedules.synchronising import keeps_time, synchronise
from callboard.actors.schedules.types import Fired, NewSchedule, Schedule, ScheduleRecord, Synchronised


class MemorySchedules:
    """Implements ``ScheduleStore``.

    Args:
        clock: the "database's" clock.
        spawn: inserts jobs, all or none.
        require_term: raises where a leader's term is over.
    """

    def __init__(
        self,
        clock: Clock,
        spawn: Callable[[Sequence[NewJob], str], list[Spawned]],
        require_term: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._spawn = spawn
        self._require_term = require_term
        self._records: dict[str, ScheduleRecord] = {}

    async def read(self) -> list[ScheduleRecord]:
        """Return all of them, by name."""
        return [record for _, record in sorted(self._records.items())]

    async def put(self, schedule: NewSchedule, *, actor: str, replace: bool = False) -> None:
        """Store a schedule, if its name is free or ``replace`` is given."""
        known = self._records.get(schedule.name)
        if known is not None and not replace:
            raise ConfigurationError(
                f"schedule {schedule.name!r} exists ({known.source}, {known.kind}); nothing was changed. Delete it "
                f"first, or replace it"
            )
        self._put(schedule, actor)

    async def synchronise(self, declared: Sequence[NewSchedule], kinds: Collection[str], *, actor: str) -> Synchronised:
        """Make the schedules from code what this code says."""
        plan = synchronise(self._records, declared, kinds)
        for schedule in declared:
            if schedule.name in {*plan.created, *plan.changed}:
                self._put(schedule, actor)
        for name in plan.deleted:
            del self._records[name]
        return plan

    async def set_paused(self, name: str, *, paused: bool, actor: str) -> bool:
        """Pause a schedule, or let it go on from now; False if there is none."""
        known = self._records.get(name)
        if known is None:
            return False
        now = self._clock.now()
        if known.paused and not paused:
            tick = known.schedule.first_tick(now)
            known = replace(known, next_tick=tick, next_fire_at=_jittered(tick, known.schedule))
        self._records[name] = replace(known, paused=paused, changed_at=now, changed_by=actor)
        return True

    async def delete(self, name: str) -> bool:
        """Delete a schedule; False if there was none."""
        return self._records.pop(name, None) is not None

    async def fire(self, *, actor: str, limit: int, term: int | None = None) -> list[Fired]:
        """Spawn the jobs of the schedules whose time has come."""
        if term is not None:
            self._require_term(term)
        now = self._clock.now()
        due = [
            (record.next_fire_at, name)
            for name, record in self._records.items()
            if not record.paused and record.next_fire_at is not None and record.next_fire_at <= now
        ]
        return [self._fire(self._records[name], now, actor) for _, name in sorted(due)[:limit]]

    def _fire(self, record: ScheduleRecord, now: datetime, actor: str) -> Fired:
        try:
            firing = record.fire(now)
            spawned = self._spawn([tick_job(record, tick) for tick in firing.ticks], actor)
        except (CallboardError, ValueError) as error:
            return Fired(record.name, record.kind, record.queue, (), (), error)
        jobs = tuple(job.id for job in spawned if job.created)
        self._records[record.name] = replace(
            record,
            next_tick=firing.next_tick,
            next_fire_at=_jittered(firing.next_tick, record.schedule),
            last_tick=firing.ticks[-1] if firing.ticks else record.last_tick,
            last_job_id=jobs[-1] if jobs else record.last_job_id,
        )
        return Fired(record.name, record.kind, record.queue, firing.ticks, jobs)

    def _put(self, new: NewSchedule, actor: str) -> None:
        now, known = self._clock.now(), self._records.get(new.name)
        if known is not None and keeps_time(known, new):
            tick, fire_at = known.next_tick, known.next_fire_at
        else:
            tick = new.schedule.first_tick(now)
            fire_at = _jittered(tick, new.schedule)
        self._records[new.name] = ScheduleRecord(
            **new._asdict(),
            paused=known is not None and known.paused,
            next_tick=tick,
            next_fire_at=fire_at,
            last_tick=None if known is None else known.last_tick,
            last_job_id=None if known is None else known.last_job_id,
            changed_at=now,
            changed_by=actor,
        )


def _jittered(tick: datetime | None, schedule: Schedule) -> datetime | None:
    return None if tick is None else tick + timedelta(seconds=random.uniform(0, schedule.jitter_seconds))
