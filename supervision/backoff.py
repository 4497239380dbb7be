"""How long a supervisor waits before a restart: arithmetic only. Time and chance are arguments."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.actors.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between restarts of one child: an extension that OTP does not have, and off unless asked for.

    The n-th restart in a row waits between ``d`` and ``d * (1 + jitter_ratio)``, where ``d`` is
    ``initial_seconds * factor ** (n - 1)``, at most ``max_seconds`` (the formula of Akka's ``BackoffSupervisor``).
    A child that lives for ``reset_after_seconds`` starts again at n = 1.

    Attributes:
        initial_seconds: shortest first delay, default 0.2.
        max_seconds: bound of the delay before jitter, default 30.
        factor: growth from one restart in a row to the next, at least 1, default 2.
        jitter_ratio: how much chance may add, 0 to 1, default 0.5, so that what failed together does not return
            together.
        reset_after_seconds: how long a child must live to count as well; default (None) is the mean of
            ``initial_seconds`` and ``max_seconds``.
        uncounted: exceptions that are expected to pass by waiting, such as an unreachable database. A child that fails
            with one of them is delayed like any other, but its restart does not count in the supervisor's window, so
            that an outage is not the end, while a defect is; default: none.

    Raises:
        ConfigurationError: a value is out of bounds.
    """

    initial_seconds: float = 0.2
    max_seconds: float = 30.0
    factor: float = 2.0
    jitter_ratio: float = 0.5
    reset_after_seconds: float | None = None
    uncounted: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        self._expect(0 < self.initial_seconds < float("inf"), "initial_seconds", "seconds, more than 0")
        self._expect(self.initial_seconds <= self.max_seconds < float("inf"), "max_seconds", "at least initial_seconds")
        self._expect(1 <= self.factor < float("inf"), "factor", "at least 1")
        self._expect(0 <= self.jitter_ratio <= 1, "jitter_ratio", "between 0 and 1")
        self._expect(0 < self._lifetime_to_reset < float("inf"), "reset_after_seconds", "seconds, more than 0")

    def _expect(self, holds: bool, field: str, expectation: str) -> None:
        if not holds:
            raise ConfigurationError(f"backoff {field} {getattr(self, field)!r}: expected {expectation}")

    def counts(self, exception: BaseException | None) -> bool:
        """Tell whether a restart counts that follows upon a failure with this exception; None is any other end."""
        return not isinstance(exception, self.uncounted)

    @property
    def _lifetime_to_reset(self) -> float:
        if self.reset_after_seconds is None:
            return (self.initial_seconds + self.max_seconds) / 2
        return self.reset_after_seconds

    def delay_bounds(self, attempt: int) -> tuple[float, float]:
        """Return the shortest and the longest delay in seconds before restart number ``attempt`` in a row (from 1)."""
        growth_left = self.max_seconds / self.initial_seconds
        try:
            growth = min(self.factor ** (attempt - 1), growth_left)
        except OverflowError:
            growth = growth_left
        shortest = min(self.initial_seconds * growth, self.max_seconds)
        return shortest, shortest * (1 + self.jitter_ratio)

    def attempt_after(self, earlier_attempts: int, lived_seconds: float) -> int:
        """Return the number of the restart that is due now.

        Args:
            earlier_attempts: restarts in a row before it.
            lived_seconds: how long the child lived that has just ended.
        """
        return 1 if lived_seconds >= self._lifetime_to_reset else earlier_attempts + 1
