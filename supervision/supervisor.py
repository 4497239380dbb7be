"""The supervisor: starts children in order, restarts those that end, gives up when that happens too often.

Its rules are those of Erlang/OTP's ``supervisor``, cited by the ids of docs/supervision.md, and it gives the same
answers (tests/supervision/differential). What follows from an end is decided in strategy.py and restart_window.py.

A supervisor does one thing at a time, as in OTP: while it waits for a child to start or to die, its other messages
wait, in their order. It waits by ``await``, so its dispatcher is never blocked.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from callboard.actors.control import Stop
from callboard.actors.errors import ActorError, InvalidSpecification
from callboard.actors.messages import SHUTDOWN, Terminated
from callboard.actors.ref import EventRef

from .backoff import Backoff
from .base_supervisor import BaseSupervisor, Child, Draw
from .child_spec import AutoShutdown, ChildSpec, check_child_spec, check_child_specs
from .ending import end_child
from .quota import Quota
from .strategy import Strategy, affected, consequence, shuts_down
from .supervisor_flags import SupervisorFlags
from .supervisor_messages import (
    ChildCounts,
    ChildKey,
    ChildStarted,
    ChildStatus,
    CodeChange,
    CountChildren,
    DeleteChild,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartChild,
    StartFailed,
    TerminateChild,
    WhichChildren,
)
from .supervisor_telemetry import SupervisorTelemetry

_logger = logging.getLogger(__name__)


class FailedToStartChild(Stop, ActorError):
    """A supervisor did not start, because a child did not; those before it were ended (rule B6).

    Attributes:
        child_id: which one.
    """

    def __init__(self, supervisor: str, child_id: str, failure: BaseException) -> None:
        super().__init__("failed_to_start_child")
        self.child_id = child_id
        self._message = f"{supervisor} could not start its child {child_id!r}: {failure!r}"

    def __str__(self) -> str:
        return self._message


class Supervisor(BaseSupervisor):
    """Keeps its children running. Watch it, to learn when it gives up: ``Terminated`` by ``shutdown`` (E7).

    Children are started in order, each once the one before has run its ``on_start`` (B1); if one fails, those before
    it are ended, the last first, and the supervisor has failed to start with ``FailedToStartChild`` (B6). A child is
    found under its ``spec.name`` in the actor system, whichever incarnation it is in. In the log and in metrics the
    supervisor has the name that it was spawned with.

    ``shutdown`` on its reference, and the end of its own parent, end the children one by one, the last first, each as
    its specification says (G1), and then the supervisor.

    Args:
        children: what to start, in this order; mappings of ``ChildSpec``'s fields will do.
        strategy: who is restarted with a child that has ended; default ``one_for_one``.
        intensity: how many restarts the period may hold; one more and the supervisor gives up. Default 1 (A1). None,
            only with ``backoff``: any number.
        period_seconds: length of that period in whole seconds, default 5 (A1).
        auto_shutdown: whether the end of significant children ends the supervisor (I); default ``never``.
        backoff: delays before restarts; default (None): restart at once, as OTP does (B8).
        quota: limits of what the children use, and what happens beyond; default: none.
        abandoned_threads: counts threads that outlive their actors, for the quota; default: those of the actor system.
        telemetry: measurements; default: none.
        draw: draws a number between two bounds, for the backoff; default ``random.uniform``.

    Raises:
        InvalidSpecification: a flag or the list of children is wrong; nothing was started.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec | Mapping[str, Any]] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int | None = 1,
        period_seconds: int = 5,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        quota: Quota | None = None,
        abandoned_threads: Callable[[], int] | None = None,
        telemetry: SupervisorTelemetry | None = None,
        draw: Draw = random.uniform,
    ) -> None:
        flags = SupervisorFlags(strategy, intensity, period_seconds, auto_shutdown, backoff)
        self._specs = check_child_specs(children, auto_shutdown)
        _check_number(self._specs, quota)
        super().__init__(flags, quota=quota, abandoned_threads=abandoned_threads, telemetry=telemetry, draw=draw)
        self._children: dict[str, Child] = {}

    def init(self) -> tuple[SupervisorFlags, Iterable[ChildSpec | Mapping[str, Any]]]:
        """Return flags and children at each start; default: those that the constructor was given.

        A subclass may decide here; it may raise ``Ignore`` (B7), and anything else it raises is a failed start.
        """
        return self._flags, self._specs

    # Hooks

    async def on_start(self) -> None:  # type: ignore[override]  # Pykka's hooks are ordinary functions, ours may wait
        """Start the children, one after the other."""
        self._name = self.actor_ref.name or self._name
        flags, children = self.init()
        self._apply_flags(flags)
        specs = check_child_specs(children, flags.auto_shutdown)
        _check_number(specs, self._guard.quota)
        for spec in specs:
            self._children[spec.id] = Child(spec.id, spec, spec.args, spec.kwargs)
        failed = await self._start_all([spec.id for spec in specs])
        if failed is not None:
            child_id, failure = failed
            await self._terminate_all()
            raise FailedToStartChild(str(self), child_id, failure) from failure
        self._took_off()

    def _administer(self, message: object) -> Any:
        match message:
            case StartChild(spec):
                return self._start_child(spec)
            case TerminateChild(key):
                return self._terminate_child(key)
            case RestartChild(child_id):
                return self._restart_child(child_id)
            case DeleteChild(child_id):
                return self._delete_child(child_id)
            case GetChildSpec(key):
                known = self._find(key)
                return Refused("not_found") if known is None else known.spec
            case WhichChildren():
                return self._which_children()
            case CountChildren():
                return self._count_children()
            case _:
                return self._unknown(message)

    # A child has ended by itself

    async def _child_ended(self, end: Terminated) -> None:
        child = self._take(end)
        if child is None:
            return
        match consequence(child.spec.restart, abnormal=end.abnormal):
            case "restart":
                await self._restart(child, end.exception)
                return
            case "forget":
                del self._children[child.spec.id]
            case "keep":
                pass
        others = (other.spec.significant for other in self._children.values() if other.state != "stopped")
        if shuts_down(self._flags.auto_shutdown, significant=child.spec.significant, others=others):
            _logger.info("%s ends, because its significant child %r has ended", self, child.spec.id)
            await self._end_all(SHUTDOWN)

    def _child_to_restart(self, key: ChildKey) -> Child | None:
        child = self._find(key)
        return child if child is not None and child.restarting else None

    async def _restart_now(self, child: Child) -> None:
        group = [child.spec.id]
        if self._flags.strategy != "one_for_one":
            group = list(affected(self._flags.strategy, list(self._children), child.spec.id))
            await self._terminate_group(group)
            group = [each for each in group if each in self._children]
        failed = await self._start_all(group)
        if failed is not None:
            child_id, failure = failed
            self._try_again(self._children[child_id], failure)

    # Starting and ending

    async def _start_all(self, ids: Sequence[str]) -> tuple[str, BaseException] | None:
        """Start children in this order; stop at the first that fails, and return it (B1, F3, F4)."""
        for child_id in ids:
            answer = await self._start(self._children[child_id], self._children[child_id].spec.name)
            if isinstance(answer, StartFailed):
                return child_id, answer.exception
            if answer.ref is None and self._children[child_id].spec.restart == "temporary":
                del self._children[child_id]  # B5
        return None

    def _forget_arguments(self, child: Child) -> None:
        super()._forget_arguments(child)
        child.spec = replace(child.spec, args=(), kwargs={})

    async def _terminate(self, child: Child) -> None:
        """End a child, if it runs, and cancel its next restart (F6). It does not count, and starts nothing (D6, E6)."""
        ref = self._release(child)
        if ref is not None:
            await end_child(self.context.system, ref, child.spec)
            self._report()

    def _take_over(self, change: CodeChange) -> None:
        flags, given = change.flags, change.children
        if flags is None or given is None:
            own_flags, own_children = self.init()
            flags = own_flags if flags is None else flags
            given = own_children if given is None else given
        specs = check_child_specs(given, flags.auto_shutdown)
        _check_number(specs, self._guard.quota)
        self._apply_flags(flags)
        self._specs = specs
        for spec in specs:
            self._look_from_now_on(spec.quota)
        children = {spec.id: self._renewed(spec) for spec in specs}
        self._children = children | {key: kept for key, kept in self._children.items() if key not in children}

    def _renewed(self, spec: ChildSpec) -> Child:
        """Return the child of this id with its new specification; a new one, which is down, if there is none."""
        child = self._children.get(spec.id)
        if child is None:
            return Child(spec.id, spec, spec.args, spec.kwargs)
        child.spec, child.args, child.kwargs = spec, spec.args, spec.kwargs
        if child.ref is not None and spec.restart == "temporary":
            self._forget_arguments(child)
        return child

    async def _terminate_group(self, ids: Sequence[str]) -> None:
        """End these children before they start again, the last first; temporary ones are forgotten (C4)."""
        for child_id in reversed(ids):
            child = self._children[child_id]
            await self._terminate(child)
            if child.spec.restart == "temporary":
                del self._children[child_id]

    async def _terminate_all(self) -> None:
        """End all children, the last first and one at a time (G1)."""
        for child in reversed(self._children.values()):
            await self._terminate(child)

    @property
    def _waiting_count(self) -> int:
        return sum(child.restarting for child in self._children.values())

    # Administration (rules H)

    def _find(self, key: ChildKey) -> Child | None:
        return None if isinstance(key, EventRef) else self._children.get(key)

    async def _start_child(self, given: ChildSpec | Mapping[str, Any]) -> ChildStarted | StartFailed | Refused:
        try:
            spec = check_child_spec(given, self._flags.auto_shutdown)
        except InvalidSpecification as error:
            return Refused(error.reason, message=str(error))
        known = self._children.get(spec.id)
        if known is not None:
            return Refused("already_present") if known.ref is None else Refused("already_started", known.ref)
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        child = Child(spec.id, spec, spec.args, spec.kwargs)
        answer = await self._start(child, spec.name)
        if isinstance(answer, ChildStarted) and not (answer.ref is None and spec.restart == "temporary"):  # H2, B5
            self._children[spec.id] = child
        return answer

    async def _restart_child(self, child_id: str) -> ChildStarted | StartFailed | Refused:
        child = self._find(child_id)
        if child is None:
            return Refused("not_found")
        if child.state != "stopped":
            return Refused(child.state)
        return await self._start(child, child.spec.name)

    async def _terminate_child(self, key: ChildKey) -> Done | Refused:
        child = self._find(key)
        if child is None:
            return Refused("not_found")
        self._outage.forget(child)
        await self._terminate(child)
        if child.spec.restart == "temporary":
            del self._children[child.spec.id]
        return Done()

    def _delete_child(self, child_id: str) -> Done | Refused:
        child = self._find(child_id)
        if child is None:
            return Refused("not_found")
        if child.state != "stopped":
            return Refused(child.state)
        del self._children[child_id]
        return Done()

    def _which_children(self) -> tuple[ChildStatus, ...]:
        return tuple(child.status(child.spec.id) for child in reversed(self._children.values()))

    def _count_children(self) -> ChildCounts:
        supervisors = sum(child.spec.child_type == "supervisor" for child in self._children.values())
        return ChildCounts(
            specs=len(self._children),
            active=sum(ref.is_alive() for ref in self._by_ref),
            supervisors=supervisors,
            workers=len(self._children) - supervisors,
        )


def _check_number(specs: Sequence[ChildSpec], quota: Quota | None) -> None:
    limit = None if quota is None else quota.limit("children")
    if limit is not None and len(specs) > limit.most:
        raise InvalidSpecification(
            "max_children", f"{len(specs)} children: expected at most {limit.most:g}, the limit of {quota}"
        )
