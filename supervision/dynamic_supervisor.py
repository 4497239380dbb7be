"""A supervisor of any number of like children: OTP's ``simple_one_for_one``, with Elixir's ``max_children``.

Its children have no ids and no order: they are started from one specification with further arguments, found by their
references, and ended all beside each other (rules D7, G1, G7, H8).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from callboard.actors.errors import InvalidSpecification
from callboard.actors.messages import SHUTDOWN, Terminated
from callboard.actors.ref import EventRef

from .backoff import Backoff
from .base_supervisor import BaseSupervisor, Child, Draw
from .child_spec import AutoShutdown, ChildSpec, check_child_spec
from .ending import end_child, end_children
from .quota import Quota
from .strategy import consequence, shuts_down
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
    StartDynamicChild,
    StartFailed,
    TerminateChild,
    WhichChildren,
)
from .supervisor_telemetry import SupervisorTelemetry

_logger = logging.getLogger(__name__)


class DynamicSupervisor(BaseSupervisor):
    """Starts children on ``StartDynamicChild``, none by itself, and restarts those that end.

    A child that is restarted gets the arguments that it was first started with. One whose restart raises ``Ignore`` is
    forgotten, as in Elixir (OTP keeps a child that is none: erlang/otp#8230).

    Args:
        child: the one specification; its id only names the children in the log.
        max_children: most children at a time, those that are being restarted included; default (None): no limit.
        intensity, period_seconds, auto_shutdown, backoff, quota, abandoned_threads, telemetry, draw: as for
            ``Supervisor``.

    Raises:
        InvalidSpecification: a flag or the specification is wrong, or there is not exactly one; nothing was started.
    """

    def __init__(
        self,
        child: ChildSpec | Mapping[str, Any] | Iterable[ChildSpec | Mapping[str, Any]],
        *,
        max_children: int | None = None,
        intensity: int | None = 1,
        period_seconds: int = 5,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        quota: Quota | None = None,
        abandoned_threads: Callable[[], int] | None = None,
        telemetry: SupervisorTelemetry | None = None,
        draw: Draw = random.uniform,
    ) -> None:
        flags = SupervisorFlags("one_for_one", intensity, period_seconds, auto_shutdown, backoff)
        self._spec = check_child_spec(_the_only(child), auto_shutdown)
        if max_children is not None and (type(max_children) is not int or max_children < 0):
            raise InvalidSpecification(
                "invalid_max_children", f"max_children {max_children!r}: expected an int of at least 0, or None"
            )
        super().__init__(flags, quota=quota, abandoned_threads=abandoned_threads, telemetry=telemetry, draw=draw)
        self._max_children = max_children
        self._waiting: dict[ChildKey, Child] = {}  # for a restart, by the reference of their last incarnation

    def on_start(self) -> None:
        """Begin without children."""
        self._name = self.actor_ref.name or self._name
        self._took_off()

    def _administer(self, message: object) -> Any:
        match message:
            case StartDynamicChild(args, kwargs):
                return self._start_child(args, kwargs)
            case TerminateChild(key):
                return self._terminate_child(key)
            case WhichChildren():
                return self._which_children()
            case CountChildren():
                return self._count_children()
            case GetChildSpec():
                return self._spec
            case StartChild() | RestartChild() | DeleteChild():
                return Refused("simple_one_for_one")
            case _:
                return self._unknown(message)

    @property
    def _waiting_count(self) -> int:
        return len(self._waiting)

    @property
    def _size(self) -> int:
        return len(self._by_ref) + len(self._waiting)

    # A child has ended by itself

    async def _child_ended(self, end: Terminated) -> None:
        child = self._take(end)
        if child is None:
            return
        child.key = end.ref
        if consequence(child.spec.restart, abnormal=end.abnormal) == "restart":
            self._waiting[child.key] = child
            await self._restart(child, end.exception)
            return
        others = (child.spec.significant for _ in range(min(self._size, 1)))
        if shuts_down(self._flags.auto_shutdown, significant=child.spec.significant, others=others):
            _logger.info("%s ends, because a significant child has ended", self)
            await self._end_all(SHUTDOWN)

    def _child_to_restart(self, key: ChildKey) -> Child | None:
        return self._waiting.get(key)

    async def _restart_now(self, child: Child) -> None:
        answer = await self._start(child, None)
        if isinstance(answer, StartFailed):
            self._try_again(child, answer.exception)
        else:
            del self._waiting[child.key]

    # Ending

    async def _terminate_all(self) -> None:
        """End all children beside each other (G1, G7)."""
        refs = list(self._by_ref)
        for child in [*self._by_ref.values(), *self._waiting.values()]:
            self._release(child)
        self._waiting.clear()
        await end_children(self.context.system, refs, self._spec)
        self._report()

    def _take_over(self, change: CodeChange) -> None:
        flags = self._flags if change.flags is None else change.flags
        if flags.strategy != "one_for_one":
            raise InvalidSpecification(
                "invalid_strategy", f"strategy {flags.strategy!r}: expected 'one_for_one', as {self} is dynamic"
            )
        spec = self._spec if change.children is None else _the_only(change.children)
        self._spec = check_child_spec(spec, flags.auto_shutdown)
        self._apply_flags(flags)
        self._look_from_now_on(self._spec.quota)
        for child in (*self._by_ref.values(), *self._waiting.values()):
            was_temporary = child.spec.restart == "temporary"
            child.spec = replace(self._spec, restart="temporary") if was_temporary else self._spec
            if child.ref is not None and self._spec.restart == "temporary":
                self._forget_arguments(child)

    # Administration (rules D7 and H8)

    async def _start_child(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ChildStarted | StartFailed | Refused:
        if self._max_children is not None and self._size >= self._max_children:
            return Refused("max_children")
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        return await self._start(
            Child(self._spec.id, self._spec, (*self._spec.args, *args), {**self._spec.kwargs, **kwargs}), None
        )

    async def _terminate_child(self, key: ChildKey) -> Done | Refused:
        if not isinstance(key, EventRef):
            return Refused("simple_one_for_one")
        child = self._by_ref.get(key) or self._waiting.pop(key, None)
        if child is not None:
            self._outage.forget(child)
            ref = self._release(child)
            if ref is not None:
                await end_child(self.context.system, ref, self._spec)
                self._report()
        elif key.is_alive():
            return Refused("not_found")
        return Done()

    def _which_children(self) -> tuple[ChildStatus, ...]:
        return tuple(child.status(None) for child in (*self._by_ref.values(), *self._waiting.values()))

    def _count_children(self) -> ChildCounts:
        is_supervisor = self._spec.child_type == "supervisor"
        return ChildCounts(
            specs=1,
            active=len(self._by_ref),
            supervisors=self._size if is_supervisor else 0,
            workers=0 if is_supervisor else self._size,
        )


def _the_only(given: ChildSpec | Mapping[str, Any] | Iterable[ChildSpec | Mapping[str, Any]]) -> Any:
    """Return the only specification that was given (D7)."""
    if isinstance(given, (ChildSpec, Mapping)) or not isinstance(given, Iterable):
        return given
    specs = list(given)
    if len(specs) != 1:
        raise InvalidSpecification(
            "bad_start_spec", f"a dynamic supervisor with {len(specs)} child specifications: expected exactly one"
        )
    return specs[0]
