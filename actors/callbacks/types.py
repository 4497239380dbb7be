"""What crosses the boundary between the deliverer and a store."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from .attempts import CallbackState


class DueCallback(NamedTuple):
    """A callback that a node now tries to deliver, and the job that it tells of."""

    job_id: UUID
    token: int
    attempt: int
    url: str
    kind: str
    queue: str
    status: str
    stop_reason: str | None
    job_attempt: int
    created_at: datetime
    finished_at: datetime
    metadata: str | None
    """A JSON object text."""


class CallbackRecord(NamedTuple):
    """A callback as stored."""

    job_id: UUID
    url: str
    state: CallbackState
    attempts: int
    next_attempt_at: datetime | None
    """None where there is no next attempt."""
    sent_at: datetime | None
    """The latest attempt."""
    status_code: int | None
    error: str | None
