"""What a process shows to others: ``/metrics`` and the probes, and the socket that ``callboard actor`` uses."""

from __future__ import annotations

import asyncio
from pathlib import Path

from callboard.actors.clock import Clock
from callboard.actors.settings import Settings
from callboard.actors.system import ActorSystem
from callboard.supervision.admin_server import AdminServer
from callboard.supervision.administration import Administration
from callboard.supervision.endpoint import Endpoint
from callboard.supervision.health import HealthRegistry
from callboard.supervision.metrics import PrometheusTelemetry

from .incarnation import Incarnation


class Exposure:
    """Serves what the settings ask for.

    Args:
        settings: port and folder.
        incarnation: the process's name, and the socket that it may have been given.
        telemetry: what ``/metrics`` shows.
        health: what the probes ask.
        clock: the time.
    """

    def __init__(
        self,
        settings: Settings,
        incarnation: Incarnation,
        telemetry: PrometheusTelemetry,
        health: HealthRegistry,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._incarnation = incarnation
        self._telemetry = telemetry
        self._health = health
        self._clock = clock
        self._endpoint: Endpoint | None = None
        self._admin: AdminServer | None = None

    @property
    def metrics_url(self) -> str | None:
        """Where ``/metrics`` and the probes are served, without a path; None where they are not."""
        return None if self._endpoint is None else self._endpoint.url

    @property
    def admin_socket(self) -> Path | None:
        """The socket of ``callboard actor``, while it is served; None where it is not."""
        return None if self._admin is None else self._admin.path

    async def start(self, system: ActorSystem) -> None:
        """Serve.

        Args:
            system: whose actors the socket tells of.

        Raises:
            ConfigurationError: the port is taken, or there can be no socket in the folder.
        """
        if self._settings.metrics_port is not None:
            self._serve_metrics(self._settings.metrics_port)
        if self._settings.admin_socket_directory is not None:
            await self._serve_admin(system, self._settings.admin_socket_directory)

    def _serve_metrics(self, port: int) -> None:
        self._endpoint = Endpoint(
            self._telemetry.registry,
            self._health,
            host=self._settings.metrics_host,
            port=port,
            listening=self._incarnation.listening,
        )
        self._endpoint.start()

    async def _serve_admin(self, system: ActorSystem, directory: Path) -> None:
        process = {
            "node": self._incarnation.node,
            "started_at": self._clock.now().isoformat(timespec="milliseconds"),
            "metrics_url": self.metrics_url,
        }
        self._admin = AdminServer(directory, Administration(system, process).answer)
        await self._admin.start()

    async def stop_metrics(self) -> None:
        """Stop serving ``/metrics`` and the probes."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            await asyncio.to_thread(endpoint.stop)

    async def stop_admin(self) -> None:
        """Remove the socket."""
        if self._admin is not None:
            await self._admin.stop()
