"""Progress reports of running jobs, on their way into the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from .jobs.types import AttemptKey


class ProgressBoard:
    """The newest report of each attempt: older ones are overwritten before anybody stored them.

    ``report`` comes from any thread, everything else from the loop's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[AttemptKey, dict[str, Any]] = {}
        self._taken: dict[AttemptKey, dict[str, Any]] = {}
        self._on_flush: Callable[[], None] | None = None
        self._after_flush: dict[AttemptKey, Callable[[], None]] = {}
        self._sealed: set[AttemptKey] = set()

    def report(self, attempt: AttemptKey, progress: dict[str, Any]) -> None:
        """Keep a report; it replaces the one before. Any thread. After ``flush_before`` it is dropped."""
        with self._lock:
            if attempt not in self._sealed:
                self._newest[attempt] = progress

    def __bool__(self) -> bool:
        """Whether there is a report of any attempt."""
        return bool(self._newest or self._taken or self._sealed)

    def waits(self, attempt: AttemptKey) -> bool:
        """Tell whether a report of this attempt waits to be stored, or is being stored."""
        return attempt in self._newest or attempt in self._taken

    def flush_before(self, attempt: AttemptKey, then: Callable[[], None]) -> None:
        """Call ``then`` once the attempt's report is stored, or could not be; asks the flusher to hurry.

        From now on the attempt reports no more: abandoned code that never stops reporting must not hold up its end.
        """
        with self._lock:
            self._sealed.add(attempt)
        self._after_flush[attempt] = then
        if self._on_flush is not None:
            self._on_flush()

    def on_flush(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when a flush is wanted at once."""
        self._on_flush = callback

    def take(self) -> dict[AttemptKey, dict[str, Any]]:
        """Take all waiting reports, and those that were taken before but not dealt with."""
        with self._lock:
            self._taken, self._newest = self._taken | self._newest, {}
            return dict(self._taken)

    def flushed(self, attempt: AttemptKey) -> None:
        """Record that the report that was taken of an attempt is stored, or that its attempt is stale."""
        self._taken.pop(attempt, None)
        if attempt in self._newest:
            return  # it had reported again before it was sealed: what waits for the flush waits for that one
        then = self._after_flush.pop(attempt, None)
        if then is not None:
            then()

    def forget(self, attempts: Iterable[AttemptKey]) -> None:
        """Drop what ended attempts left."""
        for attempt in attempts:
            self._after_flush.pop(attempt, None)
            self._taken.pop(attempt, None)
            with self._lock:
                self._newest.pop(attempt, None)
                self._sealed.discard(attempt)

    @property
    def hurried(self) -> bool:
        """Whether an attempt waits for its report to be stored."""
        return bool(self._after_flush)
