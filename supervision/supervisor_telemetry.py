"""What a supervisor measures. ``PrometheusTelemetry`` takes it."""

from __future__ import annotations

from typing import Protocol


class SupervisorTelemetry(Protocol):
    """Measurements of supervisors."""

    def supervisor_started(self, supervisor: str) -> None:
        """A supervisor has started all its children."""

    def supervisor_stopped(self, supervisor: str) -> None:
        """A supervisor has ended."""

    def children_changed(self, supervisor: str, alive: int) -> None:
        """So many of its children live now."""

    def child_restarted(self, supervisor: str, strategy: str, actor_type: str) -> None:
        """A child is started again; counted whether that succeeds or not."""

    def supervisor_gave_up(self, supervisor: str) -> None:
        """The restart limit was exceeded."""

    def quota_checked(self, quota: str, allowed: bool) -> None:
        """A quota was compared with what is used."""

    def quota_enforced(self, quota: str, resource: str, action: str) -> None:
        """Something was done about a resource of which too much was used."""


class NoSupervisorTelemetry:
    """Measures nothing."""

    def supervisor_started(self, supervisor: str) -> None:
        """Ignore."""

    def supervisor_stopped(self, supervisor: str) -> None:
        """Ignore."""

    def children_changed(self, supervisor: str, alive: int) -> None:
        """Ignore."""

    def child_restarted(self, supervisor: str, strategy: str, actor_type: str) -> None:
        """Ignore."""

    def supervisor_gave_up(self, supervisor: str) -> None:
        """Ignore."""

    def quota_checked(self, quota: str, allowed: bool) -> None:
        """Ignore."""

    def quota_enforced(self, quota: str, resource: str, action: str) -> None:
        """Ignore."""
