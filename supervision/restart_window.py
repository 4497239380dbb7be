"""When a supervisor gives up, and how long it may wait before a restart: arithmetic only.

Two rules for this file:

1. Time and chance are arguments. Nothing here reads a clock or draws a random number.
2. The window is Erlang/OTP's, answer for answer (rules E1 to E8 of the supervision specification): restarts are
   counted for the whole supervisor, on a monotonic clock cut to whole seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from callboard.actors.errors import ConfigurationError


class RestartWindow:
    """Counts restarts in a sliding window. Costs the same at any intensity: it looks at one earlier restart only.

    Args:
        intensity: how many restarts the window may hold; one more and the supervisor gives up. 0 allows none. None
            allows any number.
        period_seconds: length of the window in whole seconds, at least 1. Because the clock is cut to whole seconds,
            a restart is forgotten between ``period_seconds`` and one second later.

    Raises:
        ConfigurationError: a value is out of bounds.
    """

    __slots__ = ("_latest", "intensity", "period_seconds")

    def __init__(self, intensity: int | None, period_seconds: int) -> None:
        check_intensity(intensity, period_seconds)
        self.intensity = intensity
        self.period_seconds = period_seconds
        # The (intensity + 1)-th restart gives up exactly when the restart `intensity` places before it is still in
        # the window, so no older one matters.
        self._latest: deque[int] = deque(maxlen=intensity or 0)

    def admit(self, now_seconds: float) -> bool:
        """Count one restart and tell whether it is within the limit; False means: give up.

        Args:
            now_seconds: monotonic time; never less than at the call before.
        """
        if self.intensity is None:
            return True
        if self.intensity == 0:
            return False
        now = int(now_seconds // 1)
        full = len(self._latest) == self.intensity
        exceeded = full and self._latest[0] >= now - self.period_seconds
        self._latest.append(now)
        return not exceeded


def check_intensity(intensity: int | None, period_seconds: int) -> None:
    """Check the two flags of a restart window.

    Raises:
        ConfigurationError: ``intensity`` is not an int of at least 0 (or None), or ``period_seconds`` is not an int
            of at least 1.
    """
    if intensity is not None and (not _is_int(intensity) or intensity < 0):
        raise ConfigurationError(
            f"supervisor intensity {intensity!r}: expected the number of restarts to allow within the period, "
            "an int of at least 0"
        )
    if not _is_int(period_seconds) or period_seconds < 1:
        raise ConfigurationError(
            f"supervisor period_seconds {period_seconds!r}: expected whole seconds, an int of at least 1"
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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

    Raises:
        ConfigurationError: a value is out of bounds.
    """

    initial_seconds: float = 0.2
    max_seconds: float = 30.0
    factor: float = 2.0
    jitter_ratio: float = 0.5
    reset_after_seconds: float | None = None

    def __post_init__(self) -> None:
        self._expect(0 < self.initial_seconds < float("inf"), "initial_seconds", "seconds, more than 0")
        self._expect(self.initial_seconds <= self.max_seconds < float("inf"), "max_seconds", "at least initial_seconds")
        self._expect(1 <= self.factor < float("inf"), "factor", "at least 1")
        self._expect(0 <= self.jitter_ratio <= 1, "jitter_ratio", "between 0 and 1")
        self._expect(0 < self._lifetime_to_reset < float("inf"), "reset_after_seconds", "seconds, more than 0")

    def _expect(self, holds: bool, field: str, expectation: str) -> None:
        if not holds:
            raise ConfigurationError(f"backoff {field} {getattr(self, field)!r}: expected {expectation}")

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
