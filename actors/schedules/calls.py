"""From a job and a schedule to what is stored, and from there to the job of a tick."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pydantic_core

from callboard.actors.errors import ConfigurationError
from callboard.actors.jobs.definition import JobRegistry
from callboard.actors.jobs.options import SpawnOptions
from callboard.actors.jobs.spawning import Spawnable, Spawning, new_row
from callboard.actors.jobs.types import NewJob

from .firing import tick_job_id
from .types import NewSchedule, Schedule, ScheduleRecord, ScheduleSource

SCHEDULE_KEY = "schedule"
TICK_KEY = "tick"
"""Under these a job's metadata say which schedule and which of its moments has spawned it."""


def new_schedule(
    spawning: Spawning,
    name: str,
    job: Spawnable,
    schedule: Schedule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    source: ScheduleSource = ScheduleSource.RUNTIME,
) -> NewSchedule:
    """Return what is stored of a schedule.

    Raises:
        ConfigurationError, InvalidArguments, PayloadTooLarge: something does not fit.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        raise ConfigurationError(f"schedule name: got {name!r}, expected 1 to 200 printable characters")
    row, options = spawning.call(job, args, {**schedule.arguments, **kwargs})
    if options.run_at is not None:
        raise ConfigurationError(f"run_at: got {options.run_at}, but the schedule says when; leave it out")
    given = options.model_dump(mode="json", include=options.model_fields_set)
    return NewSchedule(
        name,
        row.kind,
        row.queue,
        replace(schedule, arguments={}),
        row.arguments,
        json.dumps(given, sort_keys=True),
        source,
    )


def declared(registry: JobRegistry, spawning: Spawning) -> list[NewSchedule]:
    """Return the schedules of a registry's jobs, by their ``@job(schedule=...)``."""
    definitions = [registry.require(kind) for kind in registry.kinds()]
    return [
        new_schedule(spawning, job.kind, job, job.schedule, (), {}, ScheduleSource.CODE)
        for job in definitions
        if job.schedule is not None
    ]


def tick_job(record: ScheduleRecord, tick: datetime) -> NewJob:
    """Return the job that a tick spawns."""
    options = SpawnOptions.model_validate_json(record.options)
    metadata = {**options.metadata, SCHEDULE_KEY: record.name, TICK_KEY: tick.isoformat()}
    job_id = tick_job_id(record.name, tick)
    return new_row(job_id, record.kind, record.arguments, options, pydantic_core.to_json(metadata).decode())
