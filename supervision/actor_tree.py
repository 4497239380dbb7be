"""The tree of a running system: its supervisors' children, and what each actor is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pykka

from callboard.actors.errors import MailboxFull
from callboard.actors.inspection import inspect, top_level
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem

from .base_supervisor import BaseSupervisor
from .strategy import Strategy
from .supervisor_messages import ChildKey, ChildStatus, WhichChildren

ANSWER_SECONDS: Final = 1.0
"""A supervisor that is waiting for a child does not answer; it is then shown without what only it knows."""
MAX_CHILDREN: Final = 1000
"""So many children of one actor are shown; the rest is counted."""


@dataclass(frozen=True, slots=True)
class ActorNode:
    """One actor, or the place of a supervisor's child that is down.

    Attributes:
        name: the child's id; for others the name it was spawned with, or its class's.
        path: the names from the top, joined by ``/``.
        actor_type: the name of its class.
        state: ``running``, ``starting``, ``suspended``, ``ending``, ``ended``; of a child that is down ``restarting``
            or ``stopped``.
        label: what it is there for, where it says so.
        key: what its supervisor calls it; None for what has no supervisor.
        restarts: how often its supervisor has started it again.
        strategy: of a supervisor that lives.
        mailbox_depth: user messages that wait.
        handling: the type of the message being handled, or None.
        handling_seconds: since when, where that is known.
        answers: False for a supervisor that is busy: its children that are down are then missing.
        children: below it, the oldest first.
        omitted: how many more children there are.
        ref: the incarnation that lives, or None.
    """

    name: str
    path: str
    actor_type: str
    state: str
    label: str | None = None
    key: ChildKey | None = field(default=None, repr=False, compare=False)
    restarts: int = 0
    strategy: Strategy | None = None
    mailbox_depth: int = 0
    handling: str | None = None
    handling_seconds: float | None = None
    answers: bool = True
    children: tuple[ActorNode, ...] = ()
    omitted: int = 0
    ref: EventRef[Any] | None = field(default=None, repr=False, compare=False)

    def flattened(self) -> Iterator[tuple[ActorNode, ActorNode | None]]:
        """Yield this actor and all below it, each with its parent."""
        yield self, None
        for child in self.children:
            for node, parent in child.flattened():
                yield node, self if parent is None else parent


async def actor_tree(system: ActorSystem) -> tuple[ActorNode, ...]:
    """Return the actors of a system, the oldest of the top level first. On its event loop; never waits long."""
    nodes, _ = await _nodes(top_level(system), "")
    return nodes


async def _nodes(refs: Sequence[EventRef[Any]], prefix: str) -> tuple[tuple[ActorNode, ...], int]:
    """Return the first of these actors, and how many are left out."""
    nodes = await asyncio.gather(*(_node(ref, prefix) for ref in refs[:MAX_CHILDREN]))
    return tuple(nodes), max(0, len(refs) - MAX_CHILDREN)


async def _node(ref: EventRef[Any], prefix: str, child: ChildStatus | None = None) -> ActorNode:
    seen = inspect(ref)
    name = (child and child.id) or seen.name or seen.actor_class.__name__
    path = f"{prefix}{name}"
    supervises = issubclass(seen.actor_class, BaseSupervisor)
    children = await _supervised(ref) if supervises else None
    if children is None:
        nodes, omitted = await _nodes(seen.children, f"{path}/")
    else:
        shown = children[:MAX_CHILDREN]
        nodes = tuple(await asyncio.gather(*(_child(child, f"{path}/") for child in shown)))
        omitted = len(children) - len(shown)
    return ActorNode(
        name=name,
        path=path,
        actor_type=seen.actor_class.__name__,
        state=seen.state,
        label=seen.label,
        key=None if child is None else child.id or ref,
        restarts=0 if child is None else child.restarts,
        strategy=_strategy(ref) if supervises else None,
        mailbox_depth=seen.mailbox_depth,
        handling=seen.handling,
        handling_seconds=seen.handling_seconds,
        answers=children is not None or not supervises,
        children=nodes,
        omitted=omitted,
        ref=ref,
    )


async def _child(child: ChildStatus, prefix: str) -> ActorNode:
    if child.ref is not None:
        return await _node(child.ref, prefix, child)
    actor_type = child.actor_class.__name__
    name = child.id or actor_type
    return ActorNode(name, f"{prefix}{name}", actor_type, child.state, key=child.id, restarts=child.restarts)


def _strategy(ref: EventRef[Any]) -> Strategy | None:
    supervisor: BaseSupervisor | None = ref.actor_inbox.actor  # which is given up at its end
    return None if supervisor is None else supervisor.strategy


async def _supervised(ref: EventRef[Any]) -> list[ChildStatus] | None:
    """Return a supervisor's children, the oldest first; None if it does not answer now."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer: tuple[ChildStatus, ...] = await ref.ask(WhichChildren(), block=False)
    except (TimeoutError, pykka.ActorDeadError, MailboxFull):
        return None
    return list(reversed(answer))
