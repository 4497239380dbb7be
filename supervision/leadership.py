"""One term of leadership, as those see it who act in it."""

from __future__ import annotations

from callboard.actors.clock import Clock
from callboard.actors.errors import NotLeader

from .trust_window import TrustWindow


class Leadership:
    """What a duty gets: the term that it writes under, and whether it may still act. Any thread.

    Args:
        term: its number.
        proved_at: when the last proof was asked for, by ``clock.monotonic()``.
        window: how long a proof holds.
        clock: the time.

    Attributes:
        term: its number.
    """

    def __init__(self, term: int, proved_at: float, window: TrustWindow, clock: Clock) -> None:
        self.term = term
        self._proved_at: float | None = proved_at
        self._window = window
        self._clock = clock

    def fence(self) -> int:
        """Return the term, to be handed to the store with every write; it compares it with the current one.

        Raises:
            NotLeader: the term has ended here, or was not proved for too long. Stop: somebody else may lead.
        """
        if not self.trusted:
            raise NotLeader(f"term {self.term} has ended on this node, or could not be proved in time; stop acting")
        return self.term

    @property
    def trusted(self) -> bool:
        """Whether this process may act as the leader now."""
        proved_at = self._proved_at
        return proved_at is not None and self._window.trusts(proved_at, self._clock.monotonic())

    def prove(self, proved_at: float) -> bool:
        """Take a newer proof. False, and nothing changes, where the one before lapsed first: the term is over."""
        if not self.trusted:
            return False
        self._proved_at = proved_at
        return True

    def end(self) -> None:
        """The term has ended here."""
        self._proved_at = None


class CurrentLeadership:
    """Whether this process leads; outlives the leader actor, whose incarnations come and go."""

    def __init__(self) -> None:
        self._leadership: Leadership | None = None

    def begin(self, leadership: Leadership) -> None:
        """A term has begun here."""
        self._leadership = leadership

    def end(self) -> None:
        """It has ended."""
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            leadership.end()

    def leads(self) -> bool:
        """Tell whether this process may act as the leader now. Any thread."""
        leadership = self._leadership
        return leadership is not None and leadership.trusted
