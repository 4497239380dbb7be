"""What operators have set on queues, and which way a claim takes to each queue. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .limits import Limits
from .types import QueueControl, QueueDemand


class Controls:
    """Everything that operators have set, as last read.

    Args:
        queues: those that something is set on.
        limits: those that hold.
        keyed: queues that have, or had, jobs with a concurrency key.
    """

    def __init__(
        self, queues: Iterable[QueueControl] = (), limits: Limits | None = None, keyed: Iterable[str] = ()
    ) -> None:
        self.queues = {queue.name: queue for queue in queues}
        self.limits = limits or Limits()
        self.keyed = frozenset(keyed)

    def is_paused(self, queue: str) -> bool:
        """Tell whether nobody may claim jobs of a queue."""
        return queue in self.queues and self.queues[queue].paused

    def is_draining(self, queue: str) -> bool:
        """Tell whether a queue takes no new jobs."""
        return queue in self.queues and self.queues[queue].draining

    def route(self, demands: Sequence[QueueDemand]) -> tuple[list[QueueDemand], list[QueueDemand]]:
        """Split what is to be claimed: queues without any limit, and queues in which limits have a say.

        Paused queues are left out.
        """
        plain: list[QueueDemand] = []
        limited: list[QueueDemand] = []
        for demand in demands:
            if demand.limit <= 0 or self.is_paused(demand.queue):
                continue
            is_limited = demand.queue in self.keyed or self.limits.bounds_queue(demand.queue)
            (limited if is_limited else plain).append(demand)
        return plain, limited
