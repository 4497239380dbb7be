"""Which hosts are called now: one that does not answer must not take the time of all others.

Nothing here reads a clock, draws a random number, waits or logs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from callboard.actors.breaker import Breaker

from .attempts import Attempt

FAILURES: Final = 5
"""So many in a row, and a host is left alone for a while."""
PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 900.0
"""The pause doubles up to this with each probe that fails."""
PROBE_WAIT_SECONDS: Final = 5.0
"""While one callback tries whether a host is back, its others look again after so long."""
_OVERLOADED: Final = frozenset({429, 502, 503, 504})
"""Answers that say no more than none would; see the Standard Webhooks specification."""


def speaks_against_host(attempt: Attempt) -> bool:
    """Tell whether what came of an attempt says that the next one to the same host would fare no better."""
    return not attempt.blocked and (attempt.status_code is None or attempt.status_code in _OVERLOADED)


def host_of(url: str) -> str:
    """Return what has a breaker of its own: host and port, as they stand in a URL; nothing for what is no URL."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""  # whoever would call it is refused by the sender, which says why


class HostBreakers:
    """A circuit breaker for each host that has not answered lately. Times are of a monotonic clock of the caller's."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}

    def wait_seconds(self, host: str, now: float) -> float | None:
        """Return how long a host is left alone; None if it may be called, which the caller then does."""
        breaker = self._breakers.get(host)
        if breaker is None:
            return None
        if breaker.allows(now):
            self._breakers[host] = breaker.called(now)
            return None
        assert breaker.opened_at is not None
        return max(breaker.opened_at + breaker.pause_seconds - now, PROBE_WAIT_SECONDS)

    def attempted(self, host: str, attempt: Attempt, now: float) -> None:
        """Take note of what came of an attempt."""
        breaker = self._breakers.get(host)
        if attempt.blocked:  # nothing was sent, so it says nothing
            if breaker is not None:
                self._breakers[host] = breaker.abandoned()
            return
        if not speaks_against_host(attempt):
            self._breakers.pop(host, None)
            return
        known = breaker or Breaker(FAILURES, PAUSE_SECONDS)
        if known.opened_at is not None and not known.probing:
            return  # begun before it opened: the pause goes on
        pause = min(2 * known.pause_seconds, LONGEST_PAUSE_SECONDS) if known.probing else known.pause_seconds
        self._breakers[host] = replace(known.failed(now), pause_seconds=pause)

    def silent(self, now: float) -> int:
        """Return how many hosts are left alone."""
        return sum(not breaker.allows(now) for breaker in self._breakers.values())
