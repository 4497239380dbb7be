"""Steps: what a job did once, and need not do again when its function runs from the top.

Revision ID: 0007
"""

from __future__ import annotations

from alembic import context, op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STEPS = """
CREATE TABLE {schema}.job_steps (
    job_id uuid NOT NULL,
    key text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    value json NOT NULL,
    CONSTRAINT job_steps_pkey PRIMARY KEY (job_id, key),
    CONSTRAINT job_steps_job FOREIGN KEY (job_id) REFERENCES {schema}.jobs (id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    op.execute(_STEPS.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would forget what must not be done twice."""
    raise NotImplementedError("steps are not undone: restore a backup of before")
