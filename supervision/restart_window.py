"""When a supervisor gives up: arithmetic only.

Two rules for this file:

1. Time and chance are arguments. Nothing here reads a clock or draws a random number.
2. The window is Erlang/OTP's, answer for answer (rules E1 to E8 of the supervision specification): restarts are
   counted for the whole supervisor, on a monotonic clock cut to whole seconds.
"""

from __future__ import annotations

from collections import deque

from callboard.actors.errors import InvalidSpecification


class RestartWindow:
    """Counts restarts in a sliding window. Each restart costs the same at any intensity, taken together (rule E8).

    Args:
        intensity: how many restarts the window may hold; one more and the supervisor gives up. 0 allows none. None
            allows any number.
        period_seconds: length of the window in whole seconds, at least 1. Because the clock is cut to whole seconds,
            a restart is forgotten between ``period_seconds`` and one second later.

    Raises:
        InvalidSpecification: a value is out of bounds.
    """

    __slots__ = ("_restarts", "intensity", "period_seconds")

    def __init__(self, intensity: int | None, period_seconds: int) -> None:
        check_intensity(intensity, period_seconds)
        self.intensity = intensity
        self.period_seconds = period_seconds
        self._restarts: deque[int] = deque()  # those in the window, each put in once and taken out once

    def admit(self, now_seconds: float) -> bool:
        """Count one restart and tell whether it is within the limit; False means: give up.

        Args:
            now_seconds: monotonic time; never less than at the call before.
        """
        if self.intensity is None:
            return True
        now = int(now_seconds // 1)
        while self._restarts and self._restarts[0] < now - self.period_seconds:
            self._restarts.popleft()
        self._restarts.append(now)
        return len(self._restarts) <= self.intensity

    def change(self, intensity: int | None, period_seconds: int) -> None:
        """Go on with other limits, as for the constructor. The restarts in the window still count (rule H11).

        Raises:
            InvalidSpecification: a value is out of bounds; nothing has changed.
        """
        check_intensity(intensity, period_seconds)
        self.intensity = intensity
        self.period_seconds = period_seconds


def check_intensity(intensity: int | None, period_seconds: int) -> None:
    """Check the two flags of a restart window.

    Raises:
        InvalidSpecification: ``intensity`` is not an int of at least 0 (or None), or ``period_seconds`` is not an int
            of at least 1.
    """
    if intensity is not None and (not _is_int(intensity) or intensity < 0):
        raise InvalidSpecification(
            "invalid_intensity",
            f"supervisor intensity {intensity!r}: expected the number of restarts to allow within the period, "
            "an int of at least 0",
        )
    if not _is_int(period_seconds) or period_seconds < 1:
        raise InvalidSpecification(
            "invalid_period",
            f"supervisor period_seconds {period_seconds!r}: expected whole seconds, an int of at least 1",
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
