"""A circuit breaker, as arithmetic: it says whether to call, and is told what came of it.

Closed it lets everything through. After so many failures in a row it opens: nothing is called for a while. Then it is
half open: one call is let through, and what comes of that decides (Nygard, "Release It!", 2007).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker at one moment; every method returns the next.

    Attributes:
        threshold: failures in a row that open it.
        pause_seconds: how long it stays open.
        failures: in a row, so far.
        opened_at: when it opened, by a monotonic clock; None while it is closed.
        probing: whether the one call of the half-open state is under way.
    """

    threshold: int = 5
    pause_seconds: float = 60.0
    failures: int = 0
    opened_at: float | None = None
    probing: bool = False

    def state(self, now: float) -> BreakerState:
        """Return what it is at a moment of the same clock."""
        if self.opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now - self.opened_at >= self.pause_seconds else BreakerState.OPEN

    def allows(self, now: float) -> bool:
        """Tell whether a call may be made."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self.probing)

    def called(self, now: float) -> Breaker:
        """A call is made, which was allowed."""
        return replace(self, probing=True) if self.state(now) is BreakerState.HALF_OPEN else self

    def succeeded(self) -> Breaker:
        """A call has had an answer."""
        return replace(self, failures=0, opened_at=None, probing=False)

    def failed(self, now: float, *, at_once: bool = False, pause_seconds: float | None = None) -> Breaker:
        """A call has failed.

        Args:
            now: when.
            at_once: whether it opens without counting: no other call would succeed.
            pause_seconds: how long to stay open, where the other side said; otherwise as before.
        """
        failures = self.failures + 1
        opens = at_once or self.opened_at is not None or failures >= self.threshold
        return replace(
            self,
            failures=failures,
            opened_at=now if opens else None,
            probing=False,
            pause_seconds=self.pause_seconds if pause_seconds is None else pause_seconds,
        )

    def abandoned(self) -> Breaker:
        """A call has ended without telling anything about the other side."""
        return replace(self, probing=False)
