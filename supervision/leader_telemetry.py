"""What a leader actor measures. ``PrometheusTelemetry`` takes it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol, TypeAlias

ElectionOutcome: TypeAlias = Literal["error", "lost", "won"]
LockLoss: TypeAlias = Literal["connection_lost", "expired", "resigned"]


class LeaderTelemetry(Protocol):
    """Measurements of elections."""

    def election_ended(self, outcome: ElectionOutcome) -> None:
        """A term has begun here (``won``) or elsewhere (``lost``), or this node could not take part (``error``)."""

    def leader_changed(self) -> None:
        """Another term than the one seen before has begun, here or elsewhere."""

    def term_seen(self, term: int) -> None:
        """This is the current term, whoever has it."""

    def lock_acquired(self, at: datetime) -> None:
        """This process has the lock now."""

    def lock_proved(self, at: datetime) -> None:
        """It was proved to have it still."""

    def lock_lost(self, reason: LockLoss) -> None:
        """It has it no longer: handed over, the session ended, or no proof came in time."""


class NoLeaderTelemetry:
    """Measures nothing."""

    def election_ended(self, outcome: ElectionOutcome) -> None:
        """Ignore."""

    def leader_changed(self) -> None:
        """Ignore."""

    def term_seen(self, term: int) -> None:
        """Ignore."""

    def lock_acquired(self, at: datetime) -> None:
        """Ignore."""

    def lock_proved(self, at: datetime) -> None:
        """Ignore."""

    def lock_lost(self, reason: LockLoss) -> None:
        """Ignore."""
