"""What a leader lock answers: who leads, and what became of a leader that was silent."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Standing(NamedTuple):
    """What a campaign has led to."""

    won: bool
    """Whether the caller leads, from this term on."""
    term: int
    """The current term, whoever has it; 0 before the first one."""
    holder: str | None
    """The node that leads; None where nobody does."""
    silent_seconds: float | None
    """Age of the leader's last sign of life; None where nobody leads."""
    silent_too_long: bool
    """Whether that is more than the leader itself has allowed."""


class Deposition(StrEnum):
    """What became of a leader that was silent for too long."""

    ENDED = "ended"
    """Its session was ended: the lock is free, or will be in a moment."""
    UNNEEDED = "unneeded"
    """It has shown that it lives, or another one leads."""
    REFUSED = "refused"
    """The database does not allow it to this role."""


class LeaderRecord(NamedTuple):
    """Who leads, as an administrator sees it."""

    term: int
    holder: str | None
    acquired_at: datetime | None
    heartbeat_at: datetime | None
    silent_seconds: float | None
    silence_limit_seconds: float | None
    lock_held: bool
    """Whether the session that the record names has the lock indeed."""
    standbys: int
    """Sessions that wait for it now."""
