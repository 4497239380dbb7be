"""Keeps a supervisor's children within their quotas: measures them, asks quota.py, and says what is to be done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from callboard.actors.mailbox import MailboxSpec
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem

from .child_spec import ChildSpec
from .quota import Breach, ChildUsage, Quota, Usage
from .supervisor_telemetry import SupervisorTelemetry

_logger = logging.getLogger(__name__)


@runtime_checkable
class UsesResources(Protocol):
    """An actor that knows what it uses beside its mailbox, as one does that is a process."""

    def resources(self) -> tuple[int, float]:
        """Return resident memory in bytes, and processor seconds used so far. Any thread; quick."""


class Overuse(NamedTuple):
    """A child that breaks a limit of its own; or, without a child, all of them together."""

    ref: EventRef[Any] | None
    quota: Quota
    breach: Breach

    def __str__(self) -> str:
        resource, used, limit = self.breach
        return f"quota {self.quota.name!r}: {resource} {used:.6g}, and the limit is {limit.most:.6g}"


class QuotaGuard:
    """The quotas of one supervisor.

    Args:
        quota: the supervisor's own; None: only those of its children count.
        telemetry: measurements.
        abandoned_threads: counts threads that outlive their actors; default: those of the system's dispatchers.
    """

    def __init__(
        self, quota: Quota | None, telemetry: SupervisorTelemetry, abandoned_threads: Callable[[], int] | None = None
    ) -> None:
        self.quota = quota
        self._telemetry = telemetry
        self._abandoned_threads = abandoned_threads
        self._merged: dict[Quota, Quota] = {}
        self._processor_seconds: dict[EventRef[Any], tuple[float, float]] = {}

    def of(self, spec: ChildSpec) -> Quota | None:
        """Return the quota of a child."""
        if spec.quota is None:
            return self.quota
        if spec.quota not in self._merged:
            self._merged[spec.quota] = spec.quota.over(self.quota)
        return self._merged[spec.quota]

    def mailbox(self, spec: ChildSpec) -> MailboxSpec | None:
        """Return the mailbox that a child is to have; None: the one that its class says."""
        quota = self.of(spec)
        return None if quota is None else quota.mailbox(spec.actor_class.mailbox)

    def admission(self, refs: Iterable[EventRef[Any]], waiting: int, system: ActorSystem) -> Overuse | None:
        """Return what forbids one more child beside these and those that wait for a restart; None if it may start."""
        if self.quota is None:
            return None
        breach = self.quota.admission(self._usage(list(refs), waiting, system))
        self._telemetry.quota_checked(self.quota.name, breach is None)
        return None if breach is None else Overuse(None, self.quota, breach)

    def overuse(
        self, children: Iterable[tuple[EventRef[Any], ChildSpec]], waiting: int, system: ActorSystem
    ) -> Iterable[Overuse]:
        """Yield what exceeds its limit now: all children together first, then each."""
        listed = list(children)
        if self.quota is not None:
            breach = self.quota.breach(self._usage([ref for ref, _ in listed], waiting, system))
            yield from self._checked(None, self.quota, breach)
        for ref, spec in listed:
            quota = self.of(spec)
            if quota is not None:
                yield from self._checked(ref, quota, quota.breach(self._usage_of(ref, system.clock.monotonic())))
        for gone in self._processor_seconds.keys() - {ref for ref, _ in listed}:
            del self._processor_seconds[gone]

    def _checked(self, ref: EventRef[Any] | None, quota: Quota, breach: Breach | None) -> Iterable[Overuse]:
        self._telemetry.quota_checked(quota.name, breach is None)
        if breach is not None:
            self._telemetry.quota_enforced(quota.name, breach.resource, breach.limit.action)
            yield Overuse(ref, quota, breach)

    def _usage(self, refs: list[EventRef[Any]], waiting: int, system: ActorSystem) -> Usage:
        in_flight = sum(ref.handling_since is not None for ref in refs)
        abandoned = system.abandoned if self._abandoned_threads is None else self._abandoned_threads()
        return Usage(len(refs) + waiting, in_flight, abandoned)

    def _usage_of(self, ref: EventRef[Any], now: float) -> ChildUsage:
        since = ref.handling_since
        memory_bytes, cpu_ratio = self._resources(ref, now)
        return ChildUsage(ref.mailbox_depth, 0.0 if since is None else now - since, memory_bytes, cpu_ratio)

    def _resources(self, ref: EventRef[Any], now: float) -> tuple[int, float]:
        if not issubclass(ref.actor_class, UsesResources):
            return 0, 0.0
        actor = ref._actor_weakref()
        if actor is None:
            return 0, 0.0
        memory_bytes, seconds = actor.resources()
        at, before = self._processor_seconds.get(ref, (now, seconds))
        self._processor_seconds[ref] = now, seconds
        return memory_bytes, (seconds - before) / (now - at) if now > at else 0.0
