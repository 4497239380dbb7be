"""Callbacks: a row for each job that has ended and has somebody to tell.

Revision ID: 0006
"""

from __future__ import annotations

from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Without per cent signs and colons, as in 0002.
_CALLBACKS = """
ALTER TABLE {schema}.jobs ADD COLUMN callback_url text;

CREATE TABLE {schema}.callbacks (
    job_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    attempts smallint NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    status_code smallint,
    error text,
    CONSTRAINT callbacks_pkey PRIMARY KEY (job_id),
    CONSTRAINT callbacks_state CHECK (state IN ('pending', 'delivered', 'dead'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
CREATE INDEX callbacks_due ON {schema}.callbacks (next_attempt_at) WHERE state = 'pending';
CREATE INDEX callbacks_dead ON {schema}.callbacks (job_id) WHERE state = 'dead';

CREATE FUNCTION {schema}.owe_callback() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.callbacks (job_id) VALUES (new.id) ON CONFLICT DO NOTHING;
    PERFORM pg_notify('{name}_wake', 'callback');
    RETURN NULL;
END $$;

-- By a trigger, so that it is in the transaction of the job's end, whatever statement ends it. The condition is looked
-- at for every job, the function is called for those that have a callback.
CREATE TRIGGER jobs_callback AFTER UPDATE OF status ON {schema}.jobs FOR EACH ROW
    WHEN (new.callback_url IS NOT NULL AND old.status <> new.status
        AND new.status IN ('cancelled', 'completed', 'failed'))
    EXECUTE FUNCTION {schema}.owe_callback();

CREATE FUNCTION {schema}.forget_callback() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {schema}.callbacks WHERE job_id = old.id;
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_callback_forgotten AFTER DELETE ON {schema}.jobs FOR EACH ROW
    WHEN (old.callback_url IS NOT NULL)
    EXECUTE FUNCTION {schema}.forget_callback();
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    op.execute(_CALLBACKS.replace("{schema}", f'"{name}"').replace("{name}", name))


def downgrade() -> None:
    """Refuse: going back would forget whom to tell."""
    raise NotImplementedError("callbacks are not undone: restore a backup of before")
