"""How many jobs of each queue may run here. Arithmetic only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

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

    def free(self, queue: str, count: int = 1) -> None:
        """Count jobs that ended; default one."""
        self._used[queue] -= count

    def demands(self, at_most: int) -> list[QueueDemand]:
        """Return what could be claimed now, ``at_most`` jobs of each queue; queues without room are left out."""
        return [QueueDemand(queue, min(self._free(queue), at_most)) for queue in self.limits if self._free(queue) > 0]

    def worthwhile_demands(
        self, queues: Iterable[str], at_most: int, about_to_start: Mapping[str, int] = MappingProxyType({})
    ) -> list[QueueDemand]:
        """Return the demands of those of these queues that have a quarter of their slots free.

        Claiming for less costs more statements than it wins.

        Args:
            queues: which may be asked.
            at_most: jobs of each.
            about_to_start: jobs of each that will take slots in a moment; default none.
        """
        demands = []
        for queue in queues:
            free = self._free(queue) - about_to_start.get(queue, 0)
            if free * 4 >= self.limits[queue]:
                demands.append(QueueDemand(queue, min(free, at_most)))
        return demands

    def _free(self, queue: str) -> int:
        return self.limits[queue] - self._used[queue]
