"""Requests of jobs to a model: recorded, gathered into batches, and waited for without a worker.

Revision ID: 0009
"""

from __future__ import annotations

from alembic import context, op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_REQUESTS = """
CREATE TABLE {schema}.llm_requests (
    job_id uuid NOT NULL,
    key text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    batch_id uuid,
    position integer,
    provider text NOT NULL,
    params json NOT NULL,
    CONSTRAINT llm_requests_pkey PRIMARY KEY (job_id, key),
    CONSTRAINT llm_requests_job FOREIGN KEY (job_id) REFERENCES {schema}.jobs (id) ON DELETE CASCADE,
    CONSTRAINT llm_requests_item CHECK ((batch_id IS NULL) = (position IS NULL))
);
CREATE INDEX llm_requests_waiting ON {schema}.llm_requests (provider, requested_at) WHERE batch_id IS NULL;
CREATE INDEX llm_requests_batch ON {schema}.llm_requests (batch_id, position) WHERE batch_id IS NOT NULL;
"""

# NOT VALID, so that nothing is read under the lock: every row was held to less by the constraint that goes.
_WAITING_ON = """
ALTER TABLE {schema}.jobs DROP CONSTRAINT jobs_waiting_on,
    ADD CONSTRAINT jobs_waiting_on CHECK (waiting_on IN ('children', 'llm_batch')) NOT VALID;
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    op.execute((_REQUESTS + _WAITING_ON).replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would lose what jobs wait for."""
    raise NotImplementedError("requests of jobs are not undone: restore a backup of before")
