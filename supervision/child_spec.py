"""What a supervisor needs to know about a child: how to start it, when to restart it, how long its end may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from callboard.actors.actor import EventActor
from callboard.actors.errors import ConfigurationError

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
"""``permanent``: restarted whatever ended it. ``transient``: only after a crash. ``temporary``: never."""
ChildType: TypeAlias = Literal["worker", "supervisor"]
Shutdown: TypeAlias = float | Literal["brutal_kill", "infinity"]
"""Seconds to end in order before it is killed; or kill at once; or wait for ever."""

WORKER_SHUTDOWN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child of a supervisor. Defaults are OTP's (rule A2).

    Attributes:
        id: names the child within its supervisor, and in metrics.
        actor_class: what is started, each time anew: ``actor_class(*args, **kwargs)`` (rule D5).
        args: positional arguments.
        kwargs: keyword arguments.
        name: under which every incarnation of the child is found in its actor system (``ActorSystem.send``, its
            registry), so it must be the only one there; default (None): the id, and the attribute then has that value.
        restart: when the child is restarted; default ``permanent``.
        child_type: ``worker`` (default) or ``supervisor``.
        shutdown_seconds: how long the child may take to end in order, or ``brutal_kill``, or ``infinity``. Default
            (None): 5 s for workers, ``infinity`` for supervisors, whose own children need their time; the attribute
            then has that value.

    Raises:
        ConfigurationError: a field has a value that it cannot have; the message names both.
    """

    id: str
    actor_class: type[EventActor]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    name: str | None = None
    restart: Restart = "permanent"
    child_type: ChildType = "worker"
    shutdown_seconds: Shutdown | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise ConfigurationError(f"child id {self.id!r}: expected a non-empty string")
        if self.name is None:
            object.__setattr__(self, "name", self.id)
        given: object = self.actor_class
        if not (isinstance(given, type) and issubclass(given, EventActor)):
            self._reject("actor_class", "a subclass of EventActor")
        if self.restart not in get_args(Restart):
            self._reject("restart", "permanent, transient or temporary")
        if self.child_type not in get_args(ChildType):
            self._reject("child_type", "worker or supervisor")
        if self.shutdown_seconds is None:
            default: Shutdown = "infinity" if self.child_type == "supervisor" else WORKER_SHUTDOWN_SECONDS
            object.__setattr__(self, "shutdown_seconds", default)
        elif not _is_shutdown(self.shutdown_seconds):
            self._reject("shutdown_seconds", "seconds of at least 0, 'brutal_kill' or 'infinity'")

    def _reject(self, name: str, expectation: str) -> None:
        raise ConfigurationError(f"child {self.id!r}: {name} {getattr(self, name)!r}: expected {expectation}")

    def restarts_after(self, *, abnormal: bool) -> bool:
        """Tell whether the child is restarted after it ended by itself (rules C1 to C3).

        Args:
            abnormal: whether it ended otherwise than by ``normal`` or ``shutdown``.
        """
        return self.restart == "permanent" or (self.restart == "transient" and abnormal)


def _is_shutdown(value: object) -> bool:
    if isinstance(value, str):
        return value in ("brutal_kill", "infinity")
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def check_child_specs(specs: Iterable[ChildSpec]) -> tuple[ChildSpec, ...]:
    """Return the specifications as a tuple if a supervisor could start with them; starts nothing (rules A3, A6, A8).

    Raises:
        ConfigurationError: an entry is no ``ChildSpec``, or two have the same id.
    """
    try:
        checked = tuple(specs)
    except TypeError:
        raise ConfigurationError(f"children {specs!r}: expected a list of ChildSpec") from None
    seen: set[str] = set()
    for spec in checked:
        if not isinstance(spec, ChildSpec):
            raise ConfigurationError(f"child specification {spec!r}: expected a ChildSpec")
        if spec.id in seen:
            raise ConfigurationError(f"child id {spec.id!r} is given twice: ids are unique within a supervisor")
        seen.add(spec.id)
    return checked
