"""How long a standby waits: for the lock, for an answer, for a connection. The parts of a take-over, and no clock."""

from __future__ import annotations

from typing import Final

WAIT_SECONDS: Final = 0.9
"""How long one statement waits for the lock. It has a snapshot meanwhile, and VACUUM keeps what that could see; and
after one second PostgreSQL looks for deadlocks, and may log that somebody waits (``log_lock_waits``)."""

ANSWER_SECONDS: Final = 1.5
"""How long a standby waits for the answer beyond that, at first."""

CONNECT_SECONDS: Final = 2
"""How long it waits for a connection, at first; the least that the driver allows."""


class Patience:
    """A standby's: short at first, as a session that has died without a word costs the cluster so much time.

    It grows to twice as much with each answer that did not come in time, up to a bound, and is short again after one
    that came: a slow disk or network makes a take-over longer, and keeps nobody from leading for ever.
    """

    def __init__(self) -> None:
        self._unanswered = 0

    def missed(self) -> None:
        """An answer did not come in time."""
        self._unanswered += 1

    def answered(self) -> None:
        """One came."""
        self._unanswered = 0

    def wait_seconds(self, first_seconds: float, most_seconds: float) -> float:
        """Return how long to wait now.

        Args:
            first_seconds: while answers come.
            most_seconds: however many did not.
        """
        growth = float(1 << min(self._unanswered, 10))
        return min(first_seconds * growth, max(first_seconds, most_seconds))
