"""The supervisor: starts children in order, restarts those that end, gives up when that happens too often.

Its rules are those of Erlang/OTP's ``supervisor``, cited by the ids of docs/supervision.md. Strategy: one_for_one.

A supervisor does one thing at a time, as in OTP: while it waits for a child to start or to die, its other messages
wait. It waits by ``await``, so its dispatcher is never blocked.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pykka
from pykka.messages import ProxyGetAttr

from callboard.actors.actor import EventActor
from callboard.actors.errors import ActorError, ConfigurationError, MailboxFull
from callboard.actors.messages import ERROR, KILLED, Terminated
from callboard.actors.ref import EventRef

from .child_spec import ChildSpec, Shutdown, check_child_specs
from .restart_window import Backoff, RestartWindow
from .supervisor_messages import (
    ChildCounts,
    ChildStarted,
    ChildState,
    ChildStatus,
    CountChildren,
    DeleteChild,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartChild,
    StartFailed,
    StopSupervisor,
    TerminateChild,
    WhichChildren,
)
from .supervisor_telemetry import NoSupervisorTelemetry, SupervisorTelemetry

_logger = logging.getLogger(__name__)

GAVE_UP: Final = "reached_max_restart_intensity"
"""``Terminated.reason`` of a supervisor that gave up. A normal end, as ``shutdown`` is (rules E7 and J1)."""

_STRATEGY: Final = "one_for_one"
_KILL_AGAIN_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class _Child:
    """A child's place in its supervisor: stays the same from one incarnation to the next."""

    spec: ChildSpec
    ref: EventRef[Any] | None = None
    restarting: bool = False
    started_at: float = 0.0
    lived_seconds: float = 0.0
    restarts_in_a_row: int = 0

    @property
    def state(self) -> ChildState:
        if self.restarting:
            return "restarting"
        return "stopped" if self.ref is None else "running"


@dataclass(frozen=True, slots=True)
class _TryAgain:
    """A restart failed: try once more, which counts as one more restart (rules F1 and F2)."""

    child: _Child


@dataclass(frozen=True, slots=True)
class _StartNow:
    """The delay before a restart is over."""

    child: _Child


class Supervisor(EventActor):
    """Keeps its children running. Watch it, to learn when it gives up: ``Terminated`` with the reason ``GAVE_UP``.

    Children are started in order, each once the one before has run its ``on_start`` (B1); if one fails, those before
    it are stopped and the supervisor ends with ``ActorError`` (B6). A child is found under its ``spec.name`` in the
    actor system, whichever incarnation it is in. In the log and in metrics the supervisor has the name that it was
    spawned with.

    Args:
        children: what to start, in this order.
        intensity: how many restarts the period may hold; one more and the supervisor gives up. Default 1 (A1). None,
            only with ``backoff``: any number.
        period_seconds: length of that period in whole seconds, default 5 (A1).
        backoff: delays before restarts; default (None): restart at once, as OTP does (B8).
        telemetry: measurements; default: none.
        draw: draws a number between two bounds, for the backoff; default ``random.uniform``.

    Raises:
        ConfigurationError: a flag or the list of children is wrong; nothing was started.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec],
        *,
        intensity: int | None = 1,
        period_seconds: int = 5,
        backoff: Backoff | None = None,
        telemetry: SupervisorTelemetry | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        super().__init__()
        if intensity is None and backoff is None:
            raise ConfigurationError(
                "supervisor intensity None: expected a number, or a backoff beside it: without limit and without "
                "delay a child that cannot start would keep the process busy for ever"
            )
        self._specs = check_child_specs(children)
        self._name = self.__class__.__name__
        self._window = RestartWindow(intensity, period_seconds)
        self._backoff = backoff
        self._telemetry: SupervisorTelemetry = telemetry or NoSupervisorTelemetry()
        self._draw = draw
        self._children: dict[str, _Child] = {}
        self._by_ref: dict[EventRef[Any], _Child] = {}

    def __str__(self) -> str:
        return f"supervisor {self._name}"

    # Hooks

    async def on_start(self) -> None:  # type: ignore[override]  # Pykka's hooks are ordinary functions, ours may wait
        """Start the children, one after the other."""
        self._name = self.actor_ref.name or self._name
        for spec in self._specs:
            child = self._children[spec.id] = _Child(spec)
            failure = await self._start(child)
            if failure is not None:
                await self._terminate_all()
                raise ActorError(f"{self} could not start its child {spec.id!r}: {failure!r}") from failure
        self._telemetry.supervisor_started(self._name)
        self._report()
        # Not a hook: those do not run when the supervisor is killed.
        self.actor_ref.termination().add_done_callback(partial(self._telemetry.supervisor_stopped, self._name))

    def on_receive(self, message: object) -> Any:
        """Take the next step; what has to wait is a coroutine."""
        match message:
            case Terminated():
                return self._child_ended(message)
            case _TryAgain(child):
                return self._restart(child) if self._awaits_restart(child) else None
            case _StartNow(child):
                return self._try_start(child) if self._awaits_restart(child) else None
            case _:
                return self._administer(message)

    def _administer(self, message: object) -> Any:
        match message:
            case StartChild(spec):
                return self._start_child(spec)
            case TerminateChild(child_id):
                return self._terminate_child(child_id)
            case RestartChild(child_id):
                return self._restart_child(child_id)
            case DeleteChild(child_id):
                return self._delete_child(child_id)
            case GetChildSpec(child_id):
                known = self._children.get(child_id)
                return Refused("not_found") if known is None else known.spec
            case WhichChildren():
                return self._which_children()
            case CountChildren():
                return self._count_children()
            case StopSupervisor(reason):
                return self._end_all(reason)
            case _:  # C6
                _logger.error("%s got a message that it does not know, and ignores it: %r", self, message)
                return None

    # A child has ended by itself

    async def _child_ended(self, end: Terminated) -> None:
        child = self._by_ref.pop(end.ref, None)
        if child is None:  # C6: not a child, or no longer
            return
        child.ref = None
        child.lived_seconds = self._now() - child.started_at
        self._report()
        abnormal = end.reason in (ERROR, KILLED)
        level = logging.WARNING if abnormal else logging.INFO
        _logger.log(level, "%s: child %r ended (%s: %r)", self, child.spec.id, end.reason, end.exception)
        if child.spec.restarts_after(abnormal=abnormal):
            await self._restart(child)
        elif child.spec.restart == "temporary":
            del self._children[child.spec.id]  # C3

    def _awaits_restart(self, child: _Child) -> bool:
        return child.restarting and self._children.get(child.spec.id) is child

    async def _restart(self, child: _Child) -> None:
        """Count one restart and do it, now or after its delay; or give up (E7)."""
        child.restarting = False
        if not self._window.admit(self._now()):
            await self._give_up(child)
            return
        child.restarting = True
        self._telemetry.child_restarted(self._name, _STRATEGY, child.spec.actor_class.__name__)
        if self._backoff is None:
            await self._try_start(child)
            return
        child.restarts_in_a_row = self._backoff.attempt_after(child.restarts_in_a_row, child.lived_seconds)
        delay_seconds = self._draw(*self._backoff.delay_bounds(child.restarts_in_a_row))
        _logger.info("%s: child %r starts again in %.1f s", self, child.spec.id, delay_seconds)
        self.context.start_timer(child, delay_seconds, _StartNow(child))

    async def _try_start(self, child: _Child) -> None:
        failure = await self._start(child)
        if failure is None:
            return
        _logger.warning("%s: child %r did not start again: %r", self, child.spec.id, failure)
        child.restarting = True
        child.lived_seconds = 0.0
        # F1: whatever is in the mailbox already comes first, so a stop or a TerminateChild wins over the next try.
        self.actor_ref.tell(_TryAgain(child))

    async def _give_up(self, offender: _Child) -> None:
        _logger.error(
            "%s gives up: child %r ended, and more than %s restarts in %s s are not allowed",
            self,
            offender.spec.id,
            self._window.intensity,
            self._window.period_seconds,
        )
        self._telemetry.supervisor_gave_up(self._name)
        await self._end_all(GAVE_UP)

    async def _end_all(self, reason: str) -> Done:
        """End all children, then the supervisor."""
        await self._terminate_all()
        self.actor_ref.shutdown(reason)
        return Done()

    # Starting and ending one child

    async def _start(self, child: _Child) -> BaseException | None:
        """Start a new incarnation and wait until its ``on_start`` has run. Return what kept it from it, if anything."""
        spec = child.spec
        child.restarting = False
        try:
            ref = self.context.spawn(spec.actor_class, *spec.args, name=spec.name, **spec.kwargs)
        except Exception as error:  # noqa: BLE001 - the outcome of the start, whatever a constructor may raise (B2)
            return error
        self.context.watch(ref)
        failure = await self._failure_of_start(ref)
        if failure is not None:
            self.context.unwatch(ref)
            return failure
        child.ref = ref
        child.started_at = self._now()
        self._by_ref[ref] = child
        if spec.restart == "temporary":
            child.spec = replace(spec, args=(), kwargs={})  # C5: they will not be needed again
        self._report()
        return None

    async def _failure_of_start(self, ref: EventRef[Any]) -> BaseException | None:
        try:
            # Any question that the kernel itself answers, after on_start and before the messages of others.
            await ref.ask(ProxyGetAttr(("dispatcher",)), block=False)
        except pykka.ActorDeadError as error:
            end = await ref.termination()
            return end.exception or error
        except pykka.Timeout as error:
            await _end(ref, "brutal_kill")
            return error
        except MailboxFull:
            # Others were quicker and filled its mailbox. If its start fails yet, that is an end like any other.
            return None
        return None

    async def _terminate(self, child: _Child) -> None:
        """End a child, if it runs, and cancel its next restart (F6). It does not count, and starts nothing (D6, E6)."""
        child.restarting = False
        self.context.cancel_timer(child)
        ref, child.ref = child.ref, None
        if ref is None:
            return
        del self._by_ref[ref]
        self.context.unwatch(ref)
        await _end(ref, child.spec.shutdown_seconds)
        self._report()

    async def _terminate_all(self) -> None:
        """End all children, the last first and one at a time (G1)."""
        for child in reversed(self._children.values()):
            await self._terminate(child)

    def _now(self) -> float:
        return self.context.system.clock.monotonic()

    def _report(self) -> None:
        self._telemetry.children_changed(self._name, len(self._by_ref))

    # Administration (rules H)

    async def _start_child(self, spec: ChildSpec) -> ChildStarted | StartFailed | Refused:
        known = self._children.get(spec.id)
        if known is not None:
            return Refused("already_present") if known.ref is None else Refused("already_started", known.ref)
        child = self._children[spec.id] = _Child(spec)
        answer = await self._started(child)
        if isinstance(answer, StartFailed):
            del self._children[spec.id]  # H2
        return answer

    async def _restart_child(self, child_id: str) -> ChildStarted | StartFailed | Refused:
        child = self._children.get(child_id)
        if child is None:
            return Refused("not_found")
        if child.state != "stopped":
            return Refused(child.state)
        return await self._started(child)

    async def _started(self, child: _Child) -> ChildStarted | StartFailed:
        failure = await self._start(child)
        if failure is not None:
            return StartFailed(failure)
        assert child.ref is not None
        return ChildStarted(child.ref)

    async def _terminate_child(self, child_id: str) -> Done | Refused:
        child = self._children.get(child_id)
        if child is None:
            return Refused("not_found")
        await self._terminate(child)
        if child.spec.restart == "temporary":
            del self._children[child_id]
        return Done()

    def _delete_child(self, child_id: str) -> Done | Refused:
        child = self._children.get(child_id)
        if child is None:
            return Refused("not_found")
        if child.state != "stopped":
            return Refused(child.state)
        del self._children[child_id]
        return Done()

    def _which_children(self) -> tuple[ChildStatus, ...]:
        return tuple(
            ChildStatus(child.spec.id, child.ref, child.state, child.spec.child_type)
            for child in reversed(self._children.values())
        )

    def _count_children(self) -> ChildCounts:
        supervisors = sum(child.spec.child_type == "supervisor" for child in self._children.values())
        return ChildCounts(
            specs=len(self._children),
            active=sum(ref.is_alive() for ref in self._by_ref),
            supervisors=supervisors,
            workers=len(self._children) - supervisors,
        )


async def _end(ref: EventRef[Any], shutdown_seconds: Shutdown | None) -> Terminated:
    """End an actor as its specification says, and return once it is dead (rules G2 to G4)."""
    termination = ref.termination()
    if shutdown_seconds != "brutal_kill":
        if issubclass(ref.actor_class, Supervisor):
            ref.send(StopSupervisor())
        else:
            ref.shutdown()
        try:
            async with asyncio.timeout(None if isinstance(shutdown_seconds, str) else shutdown_seconds):
                return await termination
        except TimeoutError:
            _logger.warning("%s did not stop within %s s: killed", ref, shutdown_seconds)
    while True:
        # A coroutine may swallow its cancellation, so one kill need not be enough.
        ref.kill()
        try:
            async with asyncio.timeout(_KILL_AGAIN_SECONDS):
                return await termination
        except TimeoutError:
            _logger.warning("%s was killed and does not end", ref)
