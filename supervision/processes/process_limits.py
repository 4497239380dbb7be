"""How long a process may take, and how much it may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callboard.actors.errors import ConfigurationError

_SUPERVISORS_MARGIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """How long a process may take, and how much it may use.

    Attributes:
        start_timeout_seconds: from its start until it says that it is ready; then it is killed. Default 60.
        stop_timeout_seconds: from SIGTERM until its end; then it is killed. Default 35.
        silence_limit_seconds: how long its event loop may give no sign of life; then it is killed. Default (None): no
            limit, for programs that do not beat.
        memory_limit_bytes: resident memory beyond which it is replaced by another one. Default (None): no limit.
        look_interval_seconds: how often silence and memory are looked at. Default 1.

    Raises:
        ConfigurationError: a value is not more than 0.
    """

    start_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 35.0
    silence_limit_seconds: float | None = None
    memory_limit_bytes: int | None = None
    look_interval_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(f"process limit {name} {value!r}: expected a number of more than 0")

    @property
    def shutdown_seconds(self) -> float:
        """What the child specification of a process should say: the process's own limit comes first."""
        return self.stop_timeout_seconds + _SUPERVISORS_MARGIN_SECONDS
