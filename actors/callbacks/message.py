"""What a callback says."""

from __future__ import annotations

import json
from typing import Final

from .sender import Message
from .types import DueCallback

LARGEST_METADATA_BYTES: Final = 16_000
"""Larger ones are left out: receivers ought to be able to take 20 kB, and not more."""


def message_of(callback: DueCallback) -> Message:
    """Return the message: the same, with the same id, in every attempt, because an ended job does not change."""
    metadata = callback.metadata or "{}"
    data = {
        "job_id": str(callback.job_id),
        "kind": callback.kind,
        "queue": callback.queue,
        "status": callback.status,
        "stop_reason": callback.stop_reason,
        "attempt": callback.job_attempt,
        "created_at": callback.created_at.isoformat(),
        "completed_at": callback.finished_at.isoformat(),
        "metadata": json.loads(metadata) if len(metadata.encode()) <= LARGEST_METADATA_BYTES else None,
    }
    body = {"type": f"job.{callback.status}", "timestamp": callback.finished_at.isoformat(), "data": data}
    return Message(f"msg_{callback.job_id.hex}", callback.url, json.dumps(body, separators=(",", ":")))
