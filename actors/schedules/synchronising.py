"""What a worker's start does to the stored schedules: those in its code become as the code says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from .types import NewSchedule, ScheduleRecord, ScheduleSource, Synchronised


def synchronise(
    stored: Mapping[str, ScheduleRecord], declared: Sequence[NewSchedule], kinds: Collection[str]
) -> Synchronised:
    """Decide what to create, change and delete.

    Schedules that were made at run time stay as they are, and so do those of jobs that this worker does not know:
    another one may.

    Args:
        stored: the schedules that exist, by name.
        declared: those in the worker's code.
        kinds: every kind of job that the worker knows.
    """
    names = {schedule.name for schedule in declared}
    known = [(schedule, stored[schedule.name]) for schedule in declared if schedule.name in stored]
    return Synchronised(
        created=tuple(schedule.name for schedule in declared if schedule.name not in stored),
        changed=tuple(
            record.name
            for schedule, record in known
            if record.source is ScheduleSource.CODE and not is_same(record, schedule)
        ),
        deleted=tuple(
            name
            for name, record in stored.items()
            if record.source is ScheduleSource.CODE and name in kinds and name not in names
        ),
        refused=tuple(record.name for _, record in known if record.source is not ScheduleSource.CODE),
    )


def is_same(record: ScheduleRecord, schedule: NewSchedule) -> bool:
    """Tell whether a stored schedule says what a new one says."""
    return (
        (record.kind, record.queue, record.schedule) == (schedule.kind, schedule.queue, schedule.schedule)
        and json.loads(record.arguments) == json.loads(schedule.arguments)
        and json.loads(record.options) == json.loads(schedule.options)
    )


def keeps_time(record: ScheduleRecord, schedule: NewSchedule) -> bool:
    """Tell whether a change leaves the moments as they were, so that those that are due stay due."""
    old, new = record.schedule, schedule.schedule
    return (old.cron, old.zone, old.interval_seconds) == (new.cron, new.zone, new.interval_seconds)
