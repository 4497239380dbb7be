"""What one actor is doing right now, read from its cell: no message, so a busy or suspended actor is seen as well."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from .cell import ActorCell
from .messages import Request, Terminated
from .ref import EventRef
from .system import ActorSystem
from .tree_lock import tree_lock
from .turns import ENDED, ENDING, RUNNING, STARTING

LifeState: TypeAlias = Literal["starting", "running", "suspended", "ending", "ended"]


_HANDLES_NO_MESSAGE = {STARTING: "on_start", ENDING: "on_stop"}


@runtime_checkable
class Labelled(Protocol):
    """An actor that can say in a few words what it is there for, where its class does not tell."""

    @property
    def label(self) -> str:
        """Those words, for people. Any thread; must not raise."""


class Inspection(NamedTuple):
    """One actor at one moment."""

    name: str | None
    """The name it was spawned with."""
    actor_class: type[Any]
    label: str | None
    """Its own words, if it is ``Labelled``."""
    state: LifeState
    mailbox_depth: int
    """User messages that wait."""
    handling: str | None
    """The type of the message that is being handled, or the hook that runs; None while it waits for messages."""
    handling_seconds: float | None
    """For how long; None for hooks, which the kernel does not measure."""
    children: tuple[EventRef[Any], ...]
    """In the order of their start."""


def inspect(ref: EventRef[Any]) -> Inspection:
    """Look at an actor. On the thread of its event loop the answer is consistent; elsewhere it is a good guess."""
    cell = ref.actor_inbox
    actor, context = cell.actor, cell.context
    with tree_lock:
        children = () if context is None else tuple(context.children)
    handling, seconds = _handling(cell)
    return Inspection(
        name=cell.name,
        actor_class=cell.actor_class,
        label=actor.label if isinstance(actor, Labelled) else None,
        state=_state(cell),
        mailbox_depth=cell.depth,
        handling=handling,
        handling_seconds=seconds,
        children=children,
    )


def _state(cell: ActorCell) -> LifeState:
    if cell._phase < RUNNING:
        return "starting"
    if cell._phase == ENDED:
        return "ended"
    if cell._phase == ENDING:
        return "ending"
    return "suspended" if cell._suspended else "running"


def _handling(cell: ActorCell) -> tuple[str | None, float | None]:
    gate = cell.gate
    if cell.task is None and (gate is None or gate.locked()):  # a pool's gate is open while a handler runs
        return None, None
    current, began, system = cell._current, cell.handling_since, cell.system
    message = current.message if type(current) is Request else current
    if message is None:
        return _HANDLES_NO_MESSAGE.get(cell._phase, Terminated.__name__), None
    seconds = None if began is None or system is None else max(0.0, system.clock.monotonic() - began)
    return type(message).__name__, seconds


def top_level(system: ActorSystem) -> list[EventRef[Any]]:
    """Return the actors of a system that have no parent, the oldest first. Any thread."""
    with tree_lock:
        return list(system.roots)
