"""What a supervisor needs to know about a child: how to start it, when to restart it, how long its end may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from callboard.actors.actor import EventActor
from callboard.actors.errors import InvalidSpecification

from .backoff import Backoff
from .quota import Quota

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
"""``permanent``: restarted whatever ended it. ``transient``: only after a crash. ``temporary``: never."""
ChildType: TypeAlias = Literal["worker", "supervisor"]
Shutdown: TypeAlias = float | Literal["brutal_kill", "infinity"]
"""Seconds to end in order before it is killed; or kill at once; or wait for ever."""
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""Whether a supervisor ends when a significant child, or the last one, has ended by itself for good."""

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
            A dynamic supervisor's children have no names.
        restart: when the child is restarted; default ``permanent``.
        significant: whether its end may end its supervisor (``auto_shutdown``, rules I); default False.
        child_type: ``worker`` (default) or ``supervisor``.
        shutdown_seconds: how long the child may take to end in order, or ``brutal_kill``, or ``infinity``. Default
            (None): 5 s for workers, ``infinity`` for supervisors, whose own children need their time; the attribute
            then has that value.
        backoff: delays before its restarts; default (None): those of its supervisor, if that has any.
        quota: limits of what it uses; default (None): those of its supervisor, if that has any.

    Raises:
        InvalidSpecification: a field has a value that it cannot have; the message names both (rules A4 and A7).
    """

    id: str
    actor_class: type[EventActor]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    name: str | None = None
    restart: Restart = "permanent"
    significant: bool = False
    child_type: ChildType = "worker"
    shutdown_seconds: Shutdown | None = None
    backoff: Backoff | None = None
    quota: Quota | None = None

    def __post_init__(self) -> None:
        # In OTP's order: of two faults, both name the same.
        if not isinstance(self.id, str) or not self.id:
            raise InvalidSpecification("invalid_id", f"child id {self.id!r}: expected a text that is not empty")
        if self.name is None:
            object.__setattr__(self, "name", self.id)
        given: object = self.actor_class
        is_actor_class = isinstance(given, type) and issubclass(given, EventActor)
        self._expect(is_actor_class, "invalid_start", "actor_class", "a subclass of EventActor")
        self._expect(
            self.restart in get_args(Restart),
            "invalid_restart_type",
            "restart",
            "permanent, transient or temporary",
        )
        self._check_significant()
        self._expect(self.child_type in get_args(ChildType), "invalid_child_type", "child_type", "worker or supervisor")
        if self.shutdown_seconds is None:
            default: Shutdown = "infinity" if self.child_type == "supervisor" else WORKER_SHUTDOWN_SECONDS
            object.__setattr__(self, "shutdown_seconds", default)
        self._expect(
            _is_shutdown(self.shutdown_seconds),
            "invalid_shutdown",
            "shutdown_seconds",
            "seconds of at least 0, 'brutal_kill' or 'infinity'",
        )

    def _check_significant(self) -> None:
        if self.significant is True and self.restart == "permanent":
            raise InvalidSpecification(
                "bad_combination",
                f"child {self.id!r}: significant and permanent: a significant child ends for good, so its restart must "
                "be transient or temporary",
            )
        self._expect(isinstance(self.significant, bool), "invalid_significant", "significant", "True or False")

    def _expect(self, holds: bool, reason: str, name: str, expectation: str) -> None:
        if not holds:
            raise InvalidSpecification(
                reason, f"child {self.id!r}: {name} {getattr(self, name)!r}: expected {expectation}"
            )

    @classmethod
    def of(cls, given: ChildSpec | Mapping[str, Any]) -> ChildSpec:
        """Return the specification, made from a mapping of its fields where it is one.

        Raises:
            InvalidSpecification: it is neither, lacks ``id`` or ``actor_class`` (rule A3), has a field that does not
                exist (OTP ignores those, rule A5: a misspelt one would be lost), or a value that it cannot have.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise InvalidSpecification(
                "invalid_child_spec",
                f"child specification {given!r}: expected a ChildSpec, or a mapping with its fields",
            )
        for name, reason in (("id", "missing_id"), ("actor_class", "missing_start")):
            if name not in given:
                raise InvalidSpecification(reason, f"child specification {dict(given)!r}: expected a field {name!r}")
        known = {each.name for each in fields(cls)}
        for name in given:
            if name not in known:
                raise InvalidSpecification(
                    "unknown_field",
                    f"child {given['id']!r}: field {name!r}: expected one of {', '.join(sorted(known))}",
                )
        return cls(**given)


def _is_shutdown(value: object) -> bool:
    if isinstance(value, str):
        return value in ("brutal_kill", "infinity")
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def check_child_spec(given: ChildSpec | Mapping[str, Any], auto_shutdown: AutoShutdown | None = None) -> ChildSpec:
    """Return the specification if a supervisor with this ``auto_shutdown`` could have it; None is any supervisor.

    Raises:
        InvalidSpecification: as ``ChildSpec.of``; or the child is significant and its supervisor never ends by itself
            (rule A7).
    """
    spec = ChildSpec.of(given)
    if spec.significant and auto_shutdown == "never":
        raise InvalidSpecification(
            "bad_combination",
            f"child {spec.id!r} is significant, but its supervisor's auto_shutdown is 'never': expected "
            "'any_significant' or 'all_significant' there, or significant=False here",
        )
    return spec


def check_child_specs(
    specs: Iterable[ChildSpec | Mapping[str, Any]], auto_shutdown: AutoShutdown | None = None
) -> tuple[ChildSpec, ...]:
    """Return the specifications as a tuple if a supervisor could start with them; starts nothing (rules A3 to A8).

    Args:
        specs: a list of them.
        auto_shutdown: of the supervisor; None (default) checks only what holds for any.

    Raises:
        InvalidSpecification: as ``check_child_spec``; or it is no list; or two have the same id (A6).
    """
    if isinstance(specs, (str, bytes, Mapping)) or not isinstance(specs, Iterable):
        raise InvalidSpecification("badarg", f"children {specs!r}: expected a list of ChildSpec")
    checked: dict[str, ChildSpec] = {}
    for given in specs:
        spec = check_child_spec(given, auto_shutdown)
        if spec.id in checked:
            raise InvalidSpecification(
                "duplicate_child_name", f"child id {spec.id!r} is given twice: ids are unique within a supervisor"
            )
        checked[spec.id] = spec
    return tuple(checked.values())
