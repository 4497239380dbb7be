"""Schedules.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Without per cent signs and colons, as in 0002.
_SCHEDULES = """
CREATE TABLE {schema}.schedules (
    name text NOT NULL,
    kind text NOT NULL,
    queue text NOT NULL,
    arguments json NOT NULL,
    options json NOT NULL,
    cron text,
    zone text NOT NULL,
    interval_seconds double precision,
    jitter_seconds double precision NOT NULL,
    misfire text NOT NULL,
    misfire_grace_seconds double precision NOT NULL,
    max_catch_up integer NOT NULL,
    source text NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    next_tick timestamptz,
    next_fire_at timestamptz,
    last_tick timestamptz,
    last_job_id uuid,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    CONSTRAINT schedules_pkey PRIMARY KEY (name),
    CONSTRAINT schedules_recurrence CHECK ((cron IS NULL) <> (interval_seconds IS NULL)),
    CONSTRAINT schedules_misfire CHECK (misfire IN ('skip', 'once', 'all')),
    CONSTRAINT schedules_source CHECK (source IN ('code', 'runtime'))
) WITH (fillfactor = 50);
CREATE INDEX schedules_due ON {schema}.schedules (next_fire_at) WHERE NOT paused;
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    op.execute(_SCHEDULES.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would forget schedules that somebody relies on."""
    raise NotImplementedError("schedules are not undone: restore a backup of before")
