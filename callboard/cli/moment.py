"""Moments as the command line writes them. Alone in a file: a worker's log needs nothing else of the output."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: datetime | None) -> str | None:
    """Return a moment in UTC, as ISO 8601 with milliseconds: ``2026-11-24T20:41:33.123Z``."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
