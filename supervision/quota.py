"""How much the children of a supervisor may use, and what happens to more: arithmetic only.

Erlang/OTP has no quotas; Elixir's ``max_children`` and Ray's limits are the nearest. What is used is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from callboard.actors.errors import InvalidSpecification
from callboard.actors.mailbox import MailboxSpec

Action: TypeAlias = Literal["refuse", "shed", "stop_child", "escalate"]
"""``refuse``: no further child, or no further message. ``shed``: the oldest message goes to dead letters.
``stop_child``: the child is killed, which is an end like any other: its restart counts. ``escalate``: the supervisor
ends its children and itself, as when it gives up; its own supervisor decides."""
Resource: TypeAlias = Literal[
    "children",
    "handlers_in_flight",
    "abandoned_threads",
    "mailbox_messages",
    "message_seconds",
    "memory_bytes",
    "cpu_ratio",
]

ACTIONS: Final[Mapping[Resource, tuple[Action, ...]]] = MappingProxyType(
    {
        "children": ("refuse", "escalate"),
        "handlers_in_flight": ("refuse", "escalate"),
        "abandoned_threads": ("refuse", "escalate"),
        "mailbox_messages": ("refuse", "shed", "stop_child", "escalate"),
        "message_seconds": ("stop_child", "escalate"),
        "memory_bytes": ("stop_child", "escalate"),
        "cpu_ratio": ("stop_child", "escalate"),
    }
)
"""What can be done about too much of each; the first is what a bare number means."""
_OF_ALL_CHILDREN: Final = ("children", "handlers_in_flight", "abandoned_threads")
_OF_ONE_CHILD: Final = ("mailbox_messages", "message_seconds", "memory_bytes", "cpu_ratio")


class Limit(NamedTuple):
    """The most of a resource, and what happens beyond."""

    most: float
    action: Action


class Breach(NamedTuple):
    """More was used than a limit allows."""

    resource: Resource
    used: float
    limit: Limit


@dataclass(frozen=True, slots=True)
class Usage:
    """What all children of a supervisor use together; ``ChildUsage`` is what one uses.

    Attributes:
        children: how many there are, those that are being restarted included.
        handlers_in_flight: how many of them handle a message now.
        abandoned_threads: threads and coroutines that still run code of killed actors.
    """

    children: int = 0
    handlers_in_flight: int = 0
    abandoned_threads: int = 0


@dataclass(frozen=True, slots=True)
class ChildUsage:
    """What one child uses.

    Attributes:
        mailbox_messages: messages that wait in its mailbox.
        message_seconds: how long it has been handling its current message.
        memory_bytes: of a process: its resident memory.
        cpu_ratio: of a process: how much of one processor it used since the last look, 1 being all of it.
    """

    mailbox_messages: int = 0
    message_seconds: float = 0.0
    memory_bytes: int = 0
    cpu_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits for the children of one supervisor (``Supervisor(quota=...)``) or for one child (``ChildSpec.quota``).

    Each limit is a ``Limit``, or a number with the usual action; None (default) is no limit. Of a child's quota only
    the limits of one child count; what it leaves open, its supervisor's quota decides.

    Attributes:
        name: in metrics and in the log.
        children: most children. ``refuse`` (usual): ``StartChild`` is answered by ``Refused("max_children")``.
        handlers_in_flight: most children that handle a message at a time, beyond which no further child is started.
        abandoned_threads: most threads and coroutines that outlive their killed actors. ``refuse`` (usual): no further
            child is started; ``escalate`` gets rid of them where the supervisor is a process's root.
        mailbox_messages: most messages that wait in a child's mailbox. ``refuse`` (usual): the sender gets
            ``MailboxFull``; ``shed``: the oldest is dropped. Both are exact.
        message_seconds: longest time that a child may take for one message: seen for coroutines, and for handlers on a
            pool of threads. ``stop_child`` (usual).
        memory_bytes: most resident memory of a child that is a process. ``stop_child`` (usual).
        cpu_ratio: most processor time of a child that is a process, in processors. ``stop_child`` (usual).
        interval_seconds: how often is looked for what cannot be refused; default 1.

    Raises:
        InvalidSpecification: a limit is not a number of at least 0, or its action is none of those that help.
    """

    name: str
    children: Limit | float | None = None
    handlers_in_flight: Limit | float | None = None
    abandoned_threads: Limit | float | None = None
    mailbox_messages: Limit | float | None = None
    message_seconds: Limit | float | None = None
    memory_bytes: Limit | float | None = None
    cpu_ratio: Limit | float | None = None
    interval_seconds: float = 1.0

    def __post_init__(self) -> None:
        for resource in get_args(Resource):
            given = getattr(self, resource)
            if given is not None:
                object.__setattr__(self, resource, self._limit(resource, given))
        if not 0 < self.interval_seconds < float("inf"):
            raise self._invalid("interval_seconds", self.interval_seconds, "seconds, more than 0")

    def _limit(self, resource: Resource, given: Any) -> Limit:
        most, action = given if isinstance(given, tuple) and len(given) == 2 else (given, ACTIONS[resource][0])
        if isinstance(most, bool) or not isinstance(most, (int, float)) or not 0 <= most < float("inf"):
            raise self._invalid(resource, given, "a number of at least 0, or Limit(number, action)")
        if action not in ACTIONS[resource]:
            raise self._invalid(resource, given, f"an action of {', '.join(ACTIONS[resource])}")
        if resource == "mailbox_messages" and action in ("refuse", "shed") and (most < 1 or most != int(most)):
            raise self._invalid(resource, given, "a whole number of messages, at least 1")
        return Limit(most, action)

    def _invalid(self, name: str, given: object, expectation: str) -> InvalidSpecification:
        return InvalidSpecification("invalid_quota", f"quota {self.name!r}: {name} {given!r}: expected {expectation}")

    def limit(self, resource: Resource) -> Limit | None:
        """Return the limit of a resource."""
        limit: Limit | None = getattr(self, resource)
        return limit

    @property
    def must_look(self) -> bool:
        """Whether it has limits that are kept by looking again and again."""
        return any(
            limit is not None and limit.action in ("stop_child", "escalate") for limit in map(self.limit, ACTIONS)
        )

    def mailbox(self, spec: MailboxSpec) -> MailboxSpec:
        """Return the mailbox of a child whose class says ``spec``, within the limit that can be kept exactly."""
        limit = self.limit("mailbox_messages")
        if limit is None or limit.action not in ("refuse", "shed") or (spec.capacity or limit.most) < limit.most:
            return spec
        overflow: Literal["raise", "drop_oldest"] = "raise" if limit.action == "refuse" else "drop_oldest"
        return MailboxSpec(int(limit.most), overflow, spec.block_timeout_seconds, spec.stash_capacity)

    def admission(self, usage: Usage) -> Breach | None:
        """Return the limit that one more child would break, or that is broken already; None if it may start."""
        beyond = self.breach(usage)
        children = self.limit("children")
        if beyond is None and children is not None and usage.children >= children.most:
            return Breach("children", usage.children + 1, children)
        in_flight = self.limit("handlers_in_flight")
        if beyond is None and in_flight is not None and usage.handlers_in_flight >= in_flight.most:
            return Breach("handlers_in_flight", usage.handlers_in_flight + 1, in_flight)
        return beyond

    def breach(self, usage: Usage | ChildUsage) -> Breach | None:
        """Return the first limit that is exceeded; None if none is."""
        resources: Any = _OF_ALL_CHILDREN if isinstance(usage, Usage) else _OF_ONE_CHILD
        for resource in resources:
            limit, used = self.limit(resource), getattr(usage, resource)
            if limit is not None and used > limit.most:
                return Breach(resource, used, limit)
        return None

    def over(self, other: Quota | None) -> Quota:
        """Return this quota, with another's limits where it has none."""
        if other is None:
            return self
        merged = {each.name: getattr(self, each.name) for each in fields(self)}
        for resource in get_args(Resource):
            merged[resource] = merged[resource] or other.limit(resource)
        return Quota(**merged)
