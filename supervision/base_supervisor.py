"""What every supervisor does: start a child, count its restarts, wait before them, give up, end in order."""

from __future__ import annotations

import logging
import random
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from callboard.actors.actor import EventActor
from callboard.actors.control import Ignore
from callboard.actors.errors import InvalidSpecification, QuotaExceeded, RestartIntensityReached
from callboard.actors.future import EventFuture
from callboard.actors.messages import SHUTDOWN, Shutdown, Started, Succeeded, Terminated
from callboard.actors.ref import EventRef

from .backoff import Backoff
from .child_spec import ChildSpec
from .ending import kill_or_abandon
from .outage import Outage
from .quota import Quota
from .quota_guard import QuotaGuard
from .restart_window import RestartWindow
from .strategy import Strategy
from .supervisor_flags import SupervisorFlags
from .supervisor_messages import (
    ChildKey,
    ChildStarted,
    ChildState,
    ChildStatus,
    CodeChange,
    Done,
    Refused,
    StartFailed,
)
from .supervisor_telemetry import NoSupervisorTelemetry, SupervisorTelemetry

_logger = logging.getLogger(__name__)

Draw: TypeAlias = Callable[[float, float], float]


class Child:
    """A child's place in its supervisor: stays the same from one incarnation to the next."""

    __slots__ = ("args", "key", "kwargs", "lived_seconds", "ref", "restarting", "restarts", "row", "spec", "started_at")

    def __init__(self, key: ChildKey, spec: ChildSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.key = key
        self.spec = spec
        self.args = args
        self.kwargs = kwargs
        self.ref: EventRef[Any] | None = None
        self.restarting = False
        self.restarts = 0
        self.row = 0  # of restarts before which it did not live long; for the backoff
        self.started_at = 0.0
        self.lived_seconds = 0.0

    @property
    def state(self) -> ChildState:
        """As ``which_children`` tells it: a child whose end was not handled yet is running."""
        if self.restarting:
            return "restarting"
        return "stopped" if self.ref is None else "running"

    def status(self, child_id: str | None) -> ChildStatus:
        """Return what ``which_children`` tells."""
        ref = self.ref if self.state == "running" else None
        return ChildStatus(child_id, ref, self.state, self.spec.child_type, self.spec.actor_class, self.restarts)


class TryAgain:
    """Restart a child that waits for it: the last try failed, which counts as one more restart (rules F1 and F2)."""

    __slots__ = ("exception", "key")

    def __init__(self, key: ChildKey, exception: BaseException) -> None:
        self.key = key
        self.exception = exception


class StartNow:
    """The delay before a restart is over."""

    __slots__ = ("key",)

    def __init__(self, key: ChildKey) -> None:
        self.key = key


class LookAtUsage:
    """Compare what the children use with their quotas."""

    __slots__ = ()


class BaseSupervisor(EventActor):
    """The part that static and dynamic supervisors share. It awaits and never blocks; what it does, it does in turn."""

    traps_shutdown = True
    reply_errors = ()  # refusals are answers, so whatever is raised is a defect, and its end, as in OTP

    def __init__(
        self,
        flags: SupervisorFlags,
        *,
        quota: Quota | None,
        abandoned_threads: Callable[[], int] | None,
        telemetry: SupervisorTelemetry | None,
        draw: Draw = random.uniform,
    ) -> None:
        super().__init__()
        self._flags = flags
        self._window = RestartWindow(flags.intensity, flags.period_seconds)
        self._name = self.__class__.__name__
        self._telemetry: SupervisorTelemetry = telemetry or NoSupervisorTelemetry()
        self._draw = draw
        self._by_ref: dict[EventRef[Any], Child] = {}
        self._guard = QuotaGuard(quota, self._telemetry, abandoned_threads)
        self._overusers: dict[EventRef[Any], int] = {}  # how often each was killed for it, and has not ended
        self._looks = False
        self._outage = Outage(self)

    def _apply_flags(self, flags: SupervisorFlags) -> None:
        self._flags = flags
        self._window.change(flags.intensity, flags.period_seconds)

    @property
    def strategy(self) -> Strategy:
        """Who is restarted with a child that has ended."""
        return self._flags.strategy

    def __str__(self) -> str:
        return f"supervisor {self._name}"

    # What the two kinds do differently

    @abstractmethod
    def _child_to_restart(self, key: ChildKey) -> Child | None:
        """Return the child of this key if it is waiting for a restart."""

    @abstractmethod
    async def _restart_now(self, child: Child) -> None:
        """Start the child again, and whoever has to start with it. Where that fails, ``_try_again``."""

    @abstractmethod
    async def _child_ended(self, end: Terminated) -> None:
        """Do what follows from the end of a child, or of somebody who is none."""

    @abstractmethod
    def _administer(self, message: object) -> Any:
        """Answer whoever administers the supervisor; what has to wait is a coroutine."""

    @abstractmethod
    def _take_over(self, change: CodeChange) -> None:
        """Check other flags and specifications, then go on with them."""

    @abstractmethod
    async def _terminate_all(self) -> None:
        """End all children and return once they are dead."""

    # Hooks

    def _took_off(self) -> None:
        """Report that all children have started."""
        self._telemetry.supervisor_started(self._name)
        self._report()
        self._look_from_now_on(self._guard.quota)
        # Not a hook: those do not run when the supervisor is killed.
        self.actor_ref.termination().add_done_callback(partial(self._telemetry.supervisor_stopped, self._name))

    def on_receive(self, message: object) -> Any:
        """Take the next step; what has to wait is a coroutine."""
        match message:
            case Terminated():
                return self._child_ended(message)
            case TryAgain(key=key, exception=exception):
                child = self._child_to_restart(key)
                return None if child is None else self._restart(child, exception)
            case StartNow(key=key):
                child = self._child_to_restart(key)
                return None if child is None else self._restart_now(child)
            case Shutdown(reason):
                return self._end_all(reason)
            case LookAtUsage():
                return self._enforce_quotas()
            case CodeChange():
                return self._change_code(message)
            case Succeeded(ref):
                return self._succeeded(ref)
            case _:
                return self._administer(message)

    def _change_code(self, change: CodeChange) -> Done | Refused:
        """Go on with other flags and specifications, or as before (H11)."""
        try:
            self._take_over(change)
        except Ignore:
            pass
        except InvalidSpecification as error:
            return Refused(error.reason, message=str(error))
        except Exception as error:
            _logger.exception("%s keeps its flags and specifications: init() raised", self)
            return Refused("init_failed", message=repr(error))
        return Done()

    def _unknown(self, message: object) -> None:
        _logger.error("%s got a message that it does not know, and ignores it: %r", self, message)  # C6

    async def _end_all(self, reason: str, exception: BaseException | None = None) -> None:
        """End all children, then the supervisor."""
        await self._terminate_all()
        self.context.exit(reason, exception)

    # Restarts

    async def _restart(self, child: Child, exception: BaseException | None) -> None:
        """Count one restart and do it, now or after its delay; or give up (E7)."""
        child.restarting = False
        backoff = self._backoff_of(child)
        counts = backoff is None or backoff.counts(exception)
        if counts and not self._window.admit(self._now()):
            await self._give_up(child)
            return
        child.restarting = True
        child.restarts += 1
        if counts:
            self._telemetry.child_restarted(self._name, self._flags.strategy, child.spec.actor_class.__name__)
        if backoff is None:
            await self._restart_now(child)
            return
        child.row = backoff.attempt_after(child.row, child.lived_seconds)
        delay_seconds = self._draw(*backoff.delay_bounds(child.row))
        level = logging.INFO if counts else logging.DEBUG
        _logger.log(level, "%s: child %r starts again in %.1f s", self, child.spec.id, delay_seconds)
        self.context.start_timer(child, delay_seconds, StartNow(child.key))

    def _try_again(self, child: Child, exception: BaseException) -> None:
        if not self._is_outage(child, exception):
            _logger.warning("%s: child %r did not start again: %r", self, child.spec.id, exception)
        child.restarting = True
        child.lived_seconds = 0.0
        # F1: whatever is in the mailbox already comes first, so a stop or a TerminateChild wins over the next try.
        self.context.tell_self(TryAgain(child.key, exception))

    def _backoff_of(self, child: Child) -> Backoff | None:
        return child.spec.backoff or self._flags.backoff

    def _is_outage(self, child: Child, exception: BaseException | None) -> bool:
        """Tell whether a child failed by what is expected to pass; then the outage's log has it."""
        backoff = self._backoff_of(child)
        if backoff is None or backoff.counts(exception):
            return False
        self._outage.failed(child, child.spec.id, exception, self._now())
        return True

    def _succeeded(self, ref: EventRef[Any]) -> None:
        child = self._by_ref.get(ref)
        if child is not None:
            child.row = 0
            self._outage.succeeded(child, self._now())

    async def _give_up(self, offender: Child) -> None:
        reason = RestartIntensityReached(
            f"{self} gives up: child {offender.spec.id!r} ended, and more than {self._window.intensity} restarts in "
            f"{self._window.period_seconds} s are not allowed"
        )
        _logger.error("%s", reason)
        self._telemetry.supervisor_gave_up(self._name)
        await self._end_all(SHUTDOWN, reason)  # a normal reason (E7, J1)

    # Quotas

    @property
    @abstractmethod
    def _waiting_count(self) -> int:
        """How many children wait for a restart."""

    def _look_from_now_on(self, quota: Quota | None) -> None:
        if quota is not None and quota.must_look and not self._looks:
            self._looks = True
            self.context.start_timer("usage", quota.interval_seconds, LookAtUsage(), repeat=True)

    def _refusal(self) -> Refused | None:
        """Return the answer if quotas forbid one more child."""
        overuse = self._guard.admission(self._by_ref, self._waiting_count, self.context.system)
        if overuse is None:
            return None
        self._telemetry.quota_enforced(overuse.quota.name, overuse.breach.resource, "refuse")
        reason = "max_children" if overuse.breach.resource == "children" else "quota"
        return Refused(reason, message=f"{self}: one more child: {overuse}")

    async def _enforce_quotas(self) -> None:
        children = [(ref, child.spec) for ref, child in self._by_ref.items()]
        overusers: dict[EventRef[Any], int] = {}
        for overuse in self._guard.overuse(children, self._waiting_count, self.context.system):
            _logger.warning("%s: %s: %s", self, overuse.ref or "its children", overuse)
            match overuse.breach.limit.action:
                case "escalate":
                    await self._end_all(SHUTDOWN, QuotaExceeded(f"{self} ends: {overuse}"))
                    return
                case "stop_child" if overuse.ref is not None:
                    overusers[overuse.ref] = self._overusers.get(overuse.ref, 0) + 1
                    kill_or_abandon(overuse.ref, overusers[overuse.ref])
                case _:
                    pass  # refused at the door
        self._overusers = overusers

    # One child

    async def _start(self, child: Child, name: str | None) -> ChildStarted | StartFailed:
        """Start a new incarnation and wait until its ``on_start`` has run (rules B1 to B3)."""
        child.restarting = False
        reply: EventFuture[Started] = EventFuture()
        try:
            ref = self.context.spawn_and_link(
                reply, child.spec.actor_class, child.args, child.kwargs, name, self._guard.mailbox(child.spec)
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the outcome of the start, whatever a constructor may raise (B2)
            return ChildStarted(None) if isinstance(error, Ignore) else StartFailed(error)
        started = await reply
        if isinstance(started.exception, Ignore):
            return ChildStarted(None)
        if started.exception is not None:
            return StartFailed(started.exception)
        child.ref = ref
        child.started_at = self._now()
        self._by_ref[ref] = child
        self._look_from_now_on(child.spec.quota)
        if child.spec.restart == "temporary":
            self._forget_arguments(child)
        self._report()
        return ChildStarted(ref, started.result)

    def _forget_arguments(self, child: Child) -> None:
        """Give up what a child was started with that is never started again (C5)."""
        child.args, child.kwargs = (), {}

    def _take(self, end: Terminated) -> Child | None:
        """Return the child that has ended, now down; None if that is none, or no longer (C6)."""
        child = self._by_ref.pop(end.ref, None)
        if child is None:
            return None
        child.ref = None
        child.lived_seconds = self._now() - child.started_at
        self._report()
        if not self._is_outage(child, end.exception):
            level = logging.WARNING if end.abnormal else logging.INFO
            _logger.log(level, "%s: child %r ended (%s: %r)", self, child.spec.id, end.reason, end.exception)
        return child

    def _release(self, child: Child) -> EventRef[Any] | None:
        """Let go of a child that is to be ended: its end counts no more, nor does a restart that is due (F6, D6)."""
        child.restarting = False
        self.context.cancel_timer(child)
        ref, child.ref = child.ref, None
        if ref is not None:
            del self._by_ref[ref]
            self.context.unwatch(ref)
        return ref

    def _now(self) -> float:
        return self.context.system.clock.monotonic()

    def _report(self) -> None:
        self._telemetry.children_changed(self._name, len(self._by_ref))
