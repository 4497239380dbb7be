"""What shows, again and again, that a process lives and that its database answers."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from callboard.actors.errors import StoreUnavailable
from callboard.persistence.stores import StoreParts
from callboard.supervision.health import HealthRegistry
from callboard.supervision.metrics import PrometheusTelemetry

from .worker import Worker

_NO_JOB: Final = UUID(int=0)


class VitalSigns:
    """Beats and checks, as actions of the tree.

    Args:
        node: this process.
        parts: the store, and the keeper of leases.
        health: is told.
        telemetry: is told.
        worker: None where no jobs run.
    """

    def __init__(
        self,
        node: str,
        parts: StoreParts,
        health: HealthRegistry,
        telemetry: PrometheusTelemetry,
        worker: Worker | None,
    ) -> None:
        self._node = node
        self._parts = parts
        self._health = health
        self._telemetry = telemetry
        self._worker = worker

    async def beat(self) -> None:
        """Show that the event loop lives, and what the executors do."""
        self._health.beat()
        if self._worker is None:
            return
        self._parts.keeper.beat()
        threads = self._worker.threads
        self._telemetry.set_job_threads(busy=threads.busy, idle=threads.idle, abandoned=threads.abandoned)
        processes = self._worker.processes.processes()
        busy = sum(process.is_busy for process in processes)
        self._telemetry.set_job_processes(
            busy=busy,
            idle=len(processes) - busy,
            memory_bytes=sum(process.memory_bytes for process in processes),
        )

    async def check_store(self) -> None:
        """Ask the database something.

        Raises:
            StoreUnavailable: it does not answer.
        """
        try:
            if self._worker is not None:
                await self._parts.store.register_node(self._node)
            else:
                await self._parts.store.get(_NO_JOB)
        except StoreUnavailable as error:
            self._health.store_checked(str(error))
            raise
        self._health.store_checked()
