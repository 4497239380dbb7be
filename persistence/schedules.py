"""Schedules in PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import psycopg

from callboard.actors.errors import CallboardError, ConfigurationError, StoreUnavailable
from callboard.actors.jobs.types import NewJob, Spawned
from callboard.actors.schedules.calls import tick_job
from callboard.actors.schedules.firing import Misfire
from callboard.actors.schedules.synchronising import keeps_time, synchronise
from callboard.actors.schedules.types import (
    Fired,
    NewSchedule,
    Schedule,
    ScheduleRecord,
    ScheduleSource,
    Synchronised,
)

from .controls import Runner
from .fence import require_term
from .literals import text_array
from .schedule_statements import ScheduleStatements

_Native = psycopg.AsyncConnection[Any]

_RECORD_COLUMNS: Final = 13


class SpawnIn(Protocol):
    """The store's own ``spawn``."""

    async def __call__(self, jobs: Sequence[NewJob], *, actor: str, connection: object) -> list[Spawned]:
        """Insert jobs in a connection's transaction."""
        ...


class PostgresSchedules:
    """Implements ``ScheduleStore``.

    Args:
        sql: the statements.
        run: runs them.
        spawn: inserts jobs in an open transaction.
    """

    def __init__(self, sql: ScheduleStatements, run: Runner, spawn: SpawnIn) -> None:
        self._sql = sql
        self._run = run
        self._spawn = spawn

    async def read(self) -> list[ScheduleRecord]:
        """Return all of them, by name."""

        async def body(connection: _Native) -> list[ScheduleRecord]:
            cursor = await connection.execute(self._sql.all.native)
            return [_record(row) for row in await cursor.fetchall()]

        return await self._run("schedules", body)

    async def put(self, schedule: NewSchedule, *, actor: str, replace: bool = False) -> None:
        """Store a schedule, if its name is free or ``replace`` is given."""

        async def body(connection: _Native) -> None:
            async with connection.transaction():
                await connection.execute(self._sql.turn.native)
                known = await self._one(connection, schedule.name)
                if known is not None and not replace:
                    raise ConfigurationError(
                        f"schedule {schedule.name!r} exists ({known.source}, {known.kind}); nothing was changed. "
                        f"Delete it first, or replace it"
                    )
                await self._put(connection, schedule, known, actor)

        await self._run("put_schedule", body)

    async def synchronise(self, declared: Sequence[NewSchedule], kinds: Collection[str], *, actor: str) -> Synchronised:
        """Make the schedules from code what this code says."""

        async def body(connection: _Native) -> Synchronised:
            async with connection.transaction():
                await connection.execute(self._sql.turn.native)
                cursor = await connection.execute(self._sql.all.native)
                stored = {record.name: record for record in map(_record, await cursor.fetchall())}
                plan = synchronise(stored, declared, kinds)
                for schedule in declared:
                    if schedule.name in {*plan.created, *plan.changed}:
                        await self._put(connection, schedule, stored.get(schedule.name), actor)
                for name in plan.deleted:
                    await connection.execute(self._sql.delete.native, {"name": name})
                return plan

        return await self._run("synchronise_schedules", body)

    async def set_paused(self, name: str, *, paused: bool, actor: str) -> bool:
        """Pause a schedule, or let it go on from now; False if there is none."""

        async def body(connection: _Native) -> bool:
            async with connection.transaction():
                known = await self._one(connection, name)
                if known is None:
                    return False
                tick, fire_at = known.next_tick, known.next_fire_at
                if known.paused and not paused:
                    tick = known.schedule.first_tick(await self._now(connection))
                    fire_at = _jittered(tick, known.schedule)
                values = {"name": name, "paused": paused, "next_tick": tick, "next_fire_at": fire_at, "actor": actor}
                await connection.execute(self._sql.set_paused.native, values)
                return True

        return await self._run("pause_schedule", body)

    async def delete(self, name: str) -> bool:
        """Delete a schedule; False if there was none."""

        async def body(connection: _Native) -> bool:
            cursor = await connection.execute(self._sql.delete.native, {"name": name})
            return await cursor.fetchone() is not None

        return await self._run("delete_schedule", body)

    async def fire(self, *, actor: str, limit: int, term: int | None = None) -> list[Fired]:
        """Spawn the jobs of the schedules whose time has come, each in a transaction of its own."""
        fired: list[Fired] = []

        async def body(connection: _Native) -> Fired | None:
            async with connection.transaction():
                if term is not None:
                    await require_term(connection, self._sql.schema, term)
                return await self._fire_one(connection, [done.schedule for done in fired], actor)

        while len(fired) < limit:
            one = await self._run("fire_schedule", body)
            if one is None:
                break
            fired.append(one)
        return fired

    async def _fire_one(self, connection: _Native, done: Sequence[str], actor: str) -> Fired | None:
        cursor = await connection.execute(self._sql.due.native, {"done": text_array(done)})
        row = await cursor.fetchone()
        if row is None:
            return None
        try:
            async with connection.transaction():  # a savepoint: what one schedule fails at hinders no other
                return await self._spawn_and_advance(connection, _record(row[:-1]), row[-1], actor)
        except StoreUnavailable:
            raise
        except (CallboardError, ValueError) as error:
            name, kind, queue = row[:3]
            return Fired(name, kind, queue, (), (), error)

    async def _spawn_and_advance(self, connection: _Native, record: ScheduleRecord, now: datetime, actor: str) -> Fired:
        firing = record.fire(now)
        rows = [tick_job(record, tick) for tick in firing.ticks]
        spawned = await self._spawn(rows, actor=actor, connection=connection) if rows else []
        jobs = tuple(job.id for job in spawned if job.created)
        values = {
            "name": record.name,
            "next_tick": firing.next_tick,
            "next_fire_at": _jittered(firing.next_tick, record.schedule),
            "last_tick": firing.ticks[-1] if firing.ticks else None,
            "last_job_id": jobs[-1] if jobs else None,
        }
        await connection.execute(self._sql.advance.native, values)
        return Fired(record.name, record.kind, record.queue, firing.ticks, jobs)

    async def _one(self, connection: _Native, name: str) -> ScheduleRecord | None:
        row = await (await connection.execute(self._sql.one.native, {"name": name})).fetchone()
        return None if row is None else _record(row)

    async def _now(self, connection: _Native) -> datetime:
        [(now,)] = await (await connection.execute(self._sql.now.native)).fetchall()
        return now  # type: ignore[no-any-return]

    async def _put(self, connection: _Native, new: NewSchedule, known: ScheduleRecord | None, actor: str) -> None:
        if known is not None and keeps_time(known, new):
            tick, fire_at = known.next_tick, known.next_fire_at
        else:
            tick = new.schedule.first_tick(await self._now(connection))
            fire_at = _jittered(tick, new.schedule)
        schedule = new.schedule
        values = {
            "name": new.name,
            "kind": new.kind,
            "queue": new.queue,
            "arguments": new.arguments,
            "options": new.options,
            "cron": schedule.cron,
            "zone": schedule.zone,
            "interval": schedule.interval_seconds,
            "jitter": schedule.jitter_seconds,
            "misfire": schedule.misfire.value,
            "grace": schedule.misfire_grace_seconds,
            "catch_up": schedule.max_catch_up,
            "source": new.source.value,
            "next_tick": tick,
            "next_fire_at": fire_at,
            "actor": actor,
        }
        await connection.execute(self._sql.put.native, values)


def _jittered(tick: datetime | None, schedule: Schedule) -> datetime | None:
    return None if tick is None else tick + timedelta(seconds=random.uniform(0, schedule.jitter_seconds))


def _record(row: Sequence[Any]) -> ScheduleRecord:
    name, kind, queue, arguments, options, source, *times = row[:_RECORD_COLUMNS]
    cron, zone, interval, jitter, misfire, grace, catch_up = row[_RECORD_COLUMNS:]
    schedule = Schedule(
        cron,
        zone=zone,
        interval_seconds=interval,
        jitter_seconds=jitter,
        misfire=Misfire(misfire),
        misfire_grace_seconds=grace,
        max_catch_up=catch_up,
    )
    return ScheduleRecord(name, kind, queue, schedule, arguments, options, ScheduleSource(source), *times)
