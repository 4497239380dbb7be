"""Requests of jobs that had no answer in a batch are sent again: how often.

Revision ID: 0011
"""

from __future__ import annotations

from alembic import context, op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_RESUBMISSIONS = """
ALTER TABLE {schema}.llm_requests ADD COLUMN resubmissions smallint NOT NULL DEFAULT 0;
"""


def upgrade() -> None:
    """Add the count."""
    name: str = context.config.attributes["schema"]
    op.execute(_RESUBMISSIONS.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would send requests again that have been."""
    raise NotImplementedError("the count of resubmissions is not undone: restore a backup of before")
