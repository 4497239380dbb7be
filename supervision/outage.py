"""An outage as a supervisor's log tells it: one line when it begins, one when it is over, none in between."""

from __future__ import annotations

import logging
from typing import Final

_logger = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 60.0
"""A child that has not failed for so long waits for nothing any more, though it has not said that it works: it may have
nothing to do. Longer than a statement that hangs and the delay after it."""


class Outage:
    """Which children of a supervisor failed by something outside them, and have not worked since.

    Args:
        supervisor: for the log.
    """

    def __init__(self, supervisor: object) -> None:
        self._supervisor = supervisor
        self._failed_at: dict[object, float] = {}
        self._began_at = 0.0

    def failed(self, child: object, child_id: str, exception: BaseException | None, now_seconds: float) -> None:
        """Record a child that cannot work; ``child`` is its place, the same for all its incarnations."""
        self._drop_silent(now_seconds)
        if not self._failed_at:
            self._began_at = now_seconds
            _logger.warning(
                "%s: child %r cannot work: %s (%s); whatever fails so is started again until it works, without another "
                "line here",
                self._supervisor,
                child_id,
                exception,
                type(exception).__name__,
            )
        self._failed_at[child] = now_seconds

    def succeeded(self, child: object, now_seconds: float) -> None:
        """Record a child that works."""
        if self._failed_at.pop(child, None) is None:
            return
        self._drop_silent(now_seconds)
        if not self._failed_at:
            _logger.info("%s: all children work again, after %.1f s", self._supervisor, now_seconds - self._began_at)

    def forget(self, child: object) -> None:
        """Wait no longer for a child that was ended."""
        self._failed_at.pop(child, None)

    def _drop_silent(self, now_seconds: float) -> None:
        for child, failed_at in list(self._failed_at.items()):
            if now_seconds - failed_at > SILENCE_SECONDS:
                del self._failed_at[child]
