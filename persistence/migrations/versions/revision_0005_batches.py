"""LLM batches and their items.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Without per cent signs and colons, as in 0002.
_BATCHES = """
CREATE TABLE {schema}.batches (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    provider text NOT NULL,
    endpoint text,
    total_items integer NOT NULL,
    status text NOT NULL,
    provider_batch_id text,
    collected_items integer NOT NULL DEFAULT 0,
    stray_items integer NOT NULL DEFAULT 0,
    submissions integer NOT NULL DEFAULT 1,
    submitted_at timestamptz,
    next_poll_at timestamptz NOT NULL,
    polled_at timestamptz,
    expires_at timestamptz,
    provider_ended_at timestamptz,
    cancel_requested_at timestamptz,
    cancel_requested_by text,
    cancel_sent_at timestamptz,
    finished_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    short_reads integer NOT NULL DEFAULT 0,
    provider_status text,
    provider_counts json,
    last_error text,
    CONSTRAINT batches_pkey PRIMARY KEY (id),
    CONSTRAINT batches_status CHECK (
        status IN ('submitting', 'unknown', 'running', 'cancelling', 'completed', 'failed', 'expired', 'cancelled')
    ),
    CONSTRAINT batches_collected CHECK (collected_items <= total_items)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX batches_provider_batch ON {schema}.batches (provider, provider_batch_id);
CREATE INDEX batches_due ON {schema}.batches (polled_at NULLS FIRST, id)
    WHERE status IN ('submitting', 'unknown', 'running', 'cancelling');
"""

_GUARD = """
CREATE FUNCTION {schema}.refuse_batch_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'batches_edge', MESSAGE =
        'batch ' || old.id || ': there is no edge from ' || old.status || ' to ' || new.status;
END $$;

CREATE TRIGGER batches_edge AFTER UPDATE OF status ON {schema}.batches FOR EACH ROW
    WHEN (old.status <> new.status AND old.status || '>' || new.status NOT IN (
         'submitting>cancelled',
         'submitting>cancelling',
         'submitting>expired',
         'submitting>failed',
         'submitting>running',
         'submitting>unknown',
         'unknown>cancelled',
         'unknown>cancelling',
         'unknown>expired',
         'unknown>failed',
         'unknown>running',
         'unknown>submitting',
         'running>cancelled',
         'running>cancelling',
         'running>completed',
         'running>expired',
         'running>failed',
         'cancelling>cancelled'
     ))
    EXECUTE FUNCTION {schema}.refuse_batch_change();
"""

_ITEMS = """
-- What is polled again and again is narrow; requests and results, which are large, are in a table of their own.
CREATE TABLE {schema}.batch_items (
    batch_id uuid NOT NULL,
    position integer NOT NULL,
    custom_id text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    updated_at timestamptz,
    request json NOT NULL,
    result json,
    error json,
    CONSTRAINT batch_items_pkey PRIMARY KEY (batch_id, position),
    CONSTRAINT batch_items_batch FOREIGN KEY (batch_id) REFERENCES {schema}.batches (id) ON DELETE CASCADE,
    CONSTRAINT batch_items_status CHECK (status IN ('pending', 'succeeded', 'errored', 'canceled', 'expired'))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX batch_items_custom_id ON {schema}.batch_items (batch_id, custom_id);

CREATE TABLE {schema}.batch_strays (
    batch_id uuid NOT NULL,
    wire_id text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    content json NOT NULL,
    CONSTRAINT batch_strays_pkey PRIMARY KEY (batch_id, wire_id),
    CONSTRAINT batch_strays_batch FOREIGN KEY (batch_id) REFERENCES {schema}.batches (id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    for script in (_BATCHES, _GUARD, _ITEMS):
        op.execute(script.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would lose results that were paid for."""
    raise NotImplementedError("batches are not undone: restore a backup of before")
