"""What the actors of processes measure. ``PrometheusTelemetry`` takes it."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

ExitCause: TypeAlias = Literal["asked", "normal", "error", "signal", "killed"]
"""Why a process ended: it was asked to; exit code 0 unasked; another one; somebody's signal; we killed it."""


class ProcessTelemetry(Protocol):
    """Measurements of processes."""

    def process_started(self, place: str) -> None:
        """A process was started in this place; counted whether it gets ready or not."""

    def process_exited(self, place: str, cause: ExitCause) -> None:
        """A process was reaped."""

    def process_memory(self, place: str, resident_bytes: int) -> None:
        """So much memory the process of this place occupies now."""

    def process_recycled(self, replaced: bool) -> None:
        """A process was replaced because of its memory, or that failed and it goes on."""


class NoProcessTelemetry:
    """Measures nothing."""

    def process_started(self, place: str) -> None:
        """Ignore."""

    def process_exited(self, place: str, cause: ExitCause) -> None:
        """Ignore."""

    def process_memory(self, place: str, resident_bytes: int) -> None:
        """Ignore."""

    def process_recycled(self, replaced: bool) -> None:
        """Ignore."""
