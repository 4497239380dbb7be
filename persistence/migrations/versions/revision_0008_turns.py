"""The order of claims: by time, shifted by priority.

Revision ID: 0008
"""

from __future__ import annotations

from alembic import context, op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A job that waits for its time gets its turn when that has come, so that claims walk over nothing that they leave.
# The check also refuses the writes of workers that know of no turns yet, whose jobs nobody would find.
_TURNS = """
ALTER TABLE {schema}.jobs
    ADD COLUMN turn timestamptz,
    ADD COLUMN delayed boolean NOT NULL DEFAULT false;

UPDATE {schema}.jobs
SET turn = CASE WHEN run_at <= now() THEN run_at + priority * interval '60 seconds' END, delayed = run_at > now()
WHERE status = 'pending' AND waiting_on IS NULL;

DROP INDEX {schema}.jobs_runnable;
DROP INDEX {schema}.jobs_keyed;
CREATE INDEX jobs_runnable ON {schema}.jobs (queue, turn, id) WHERE turn IS NOT NULL AND concurrency_key IS NULL;
CREATE INDEX jobs_keyed ON {schema}.jobs (queue, concurrency_key, turn, id)
    WHERE turn IS NOT NULL AND concurrency_key IS NOT NULL;
CREATE INDEX jobs_delayed ON {schema}.jobs (queue, run_at, id) WHERE delayed;

ALTER TABLE {schema}.jobs ADD CONSTRAINT jobs_turn CHECK (
    CASE WHEN status = 'pending' AND waiting_on IS NULL THEN (turn IS NULL) = delayed
         ELSE turn IS NULL AND NOT delayed END);
"""


def upgrade() -> None:
    """Add turns, and give everything that waits its own."""
    name: str = context.config.attributes["schema"]
    op.execute(_TURNS.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: older workers write jobs that have no turn."""
    raise NotImplementedError("turns are not undone: restore a backup of before")
