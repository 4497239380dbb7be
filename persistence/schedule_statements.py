"""The statements about schedules, as SQL for one schema. Spelled as in ``statements.py``."""

from __future__ import annotations

from functools import partial

from .statements import compile_statement, names

COLUMNS = """name, kind, queue, CAST(arguments AS text), CAST(options AS text), source, paused, next_tick, next_fire_at,
       last_tick, last_job_id, changed_at, changed_by, cron, zone, interval_seconds, jitter_seconds, misfire,
       misfire_grace_seconds, max_catch_up"""

_ALL = f"""
SELECT {COLUMNS} FROM {{schedules}} ORDER BY name
"""

_ONE = f"""
SELECT {COLUMNS} FROM {{schedules}} WHERE name = CAST(:name AS text) FOR NO KEY UPDATE
"""

# Two workers that start at once, or a command beside them, would else both find a name free. All keep to one order.
_TURN = """
SELECT pg_advisory_xact_lock(hashtextextended('callboard schedules {schema}', 0))
"""

_NOW = """
SELECT clock_timestamp()
"""

_PUT = """
INSERT INTO {schedules} (name, kind, queue, arguments, options, cron, zone, interval_seconds, jitter_seconds, misfire,
                         misfire_grace_seconds, max_catch_up, source, next_tick, next_fire_at, changed_by)
VALUES (CAST(:name AS text), CAST(:kind AS text), CAST(:queue AS text), CAST(:arguments AS json),
        CAST(:options AS json), CAST(:cron AS text), CAST(:zone AS text), CAST(:interval AS float8),
        CAST(:jitter AS float8), CAST(:misfire AS text), CAST(:grace AS float8), CAST(:catch_up AS integer),
        CAST(:source AS text), CAST(:next_tick AS timestamptz), CAST(:next_fire_at AS timestamptz),
        CAST(:actor AS text))
ON CONFLICT (name) DO UPDATE
SET kind = excluded.kind, queue = excluded.queue, arguments = excluded.arguments, options = excluded.options,
    cron = excluded.cron, zone = excluded.zone, interval_seconds = excluded.interval_seconds,
    jitter_seconds = excluded.jitter_seconds, misfire = excluded.misfire,
    misfire_grace_seconds = excluded.misfire_grace_seconds, max_catch_up = excluded.max_catch_up,
    source = excluded.source, next_tick = excluded.next_tick, next_fire_at = excluded.next_fire_at,
    changed_at = now(), changed_by = excluded.changed_by
"""

_SET_PAUSED = """
UPDATE {schedules}
SET paused = CAST(:paused AS boolean), next_tick = CAST(:next_tick AS timestamptz),
    next_fire_at = CAST(:next_fire_at AS timestamptz), changed_at = now(), changed_by = CAST(:actor AS text)
WHERE name = CAST(:name AS text)
"""

_DELETE = """
DELETE FROM {schedules} WHERE name = CAST(:name AS text) RETURNING name
"""

_DUE = f"""
SELECT {COLUMNS}, clock_timestamp() FROM {{schedules}}
WHERE NOT paused AND next_fire_at <= clock_timestamp() AND name <> ALL(CAST([done text] AS text[]))
ORDER BY next_fire_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""

_ADVANCE = """
UPDATE {schedules}
SET next_tick = CAST(:next_tick AS timestamptz), next_fire_at = CAST(:next_fire_at AS timestamptz),
    last_tick = coalesce(CAST(:last_tick AS timestamptz), last_tick),
    last_job_id = coalesce(CAST(:last_job_id AS uuid), last_job_id)
WHERE name = CAST(:name AS text)
"""


class ScheduleStatements:
    """The statements for one schema.

    Args:
        schema: the schema of the tables; a valid identifier.
    """

    def __init__(self, schema: str) -> None:
        compiled = partial(compile_statement, names=names(schema))
        self.schema = schema
        self.all = compiled(_ALL)
        self.one = compiled(_ONE)
        self.turn = compiled(_TURN)
        self.now = compiled(_NOW)
        self.put = compiled(_PUT)
        self.set_paused = compiled(_SET_PAUSED)
        self.delete = compiled(_DELETE)
        self.due = compiled(_DUE)
        self.advance = compiled(_ADVANCE)
