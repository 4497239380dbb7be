"""Duties: what exists only while this process leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from callboard.actors.control import Stop
from callboard.actors.errors import NotLeader
from callboard.actors.messages import Shutdown
from callboard.actors.periodic import Failed, Periodic

from .child_spec import WORKER_SHUTDOWN_SECONDS, ChildSpec
from .child_spec import Shutdown as ShutdownLimit
from .leadership import Leadership

Duty: TypeAlias = Callable[[Leadership], ChildSpec]
"""Returns what is started when a term begins here, and ended before the lock is given back."""


class PeriodicDuty(Periodic):
    """A ``Periodic`` that ends what it has begun before it ends itself, and stays down where it may act no longer."""

    traps_shutdown = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._leaving = False

    def on_receive(self, message: Any) -> None:
        """Take the next step."""
        match message:
            case Shutdown():
                self._leaving = True
                if not self._busy:
                    self.context.exit()
            case Failed(NotLeader() as exception):
                raise Stop("not_leader") from exception
            case _:
                super().on_receive(message)

    def _ended(self) -> None:
        if self._leaving:
            self.context.exit()
        else:
            super()._ended()


def duty(
    name: str,
    action: Callable[[], Awaitable[None]],
    *,
    interval_seconds: float,
    jitter: float = 0.0,
    shutdown_seconds: ShutdownLimit = WORKER_SHUTDOWN_SECONDS,
) -> ChildSpec:
    """Return the specification of a duty that does one thing again and again.

    It begins at once. When the leader hands over, what runs may end first. A late turn is taken late, not left out.

    Args:
        name: names it among the duties, in the log and in metrics.
        action: what to do; it hands ``Leadership.fence()`` to each write. With ``NotLeader`` the duty ends.
        interval_seconds: pause between two turns.
        jitter: fraction of the interval by which each pause is shortened at random; default 0.
        shutdown_seconds: how long a turn may take to end before it is cancelled; default 5.
    """
    return ChildSpec(
        name,
        PeriodicDuty,
        (action,),
        {"interval_seconds": interval_seconds, "jitter": jitter},
        restart="transient",
        shutdown_seconds=shutdown_seconds,
    )
