"""How many jobs of each queue may run here. Arithmetic only."""

from __future__ import annotations

from collections.abc import Mapping

from .jobs.types import QueueDemand


class Slots:
    """Counts running jobs against each queue's limit.

    Args:
        limits: queue name to how many of its jobs may run at a time (1 or more).
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self._used = dict.fromkeys(limits, 0)

    @property
    def used(self) -> Mapping[str, int]:
        """Queue name to its running jobs."""
        return self._used

    def take(self, queue: str) -> None:
        """Count a job that starts."""
        self._used[queue] += 1

    def free(self, queue: str) -> None:
        """Count a job that ended."""
        self._used[queue] -= 1

    def demands(self, at_most: int) -> list[QueueDemand]:
        """Return what could be claimed now, ``at_most`` jobs of each queue; queues without room are left out."""
        return [
            QueueDemand(queue, min(limit - self._used[queue], at_most))
            for queue, limit in self.limits.items()
            if limit > self._used[queue]
        ]

    def roomy(self) -> bool:
        """Tell whether a quarter of some queue is free: claiming for less costs more statements than it wins."""
        return any((limit - self._used[queue]) * 4 >= limit for queue, limit in self.limits.items())
