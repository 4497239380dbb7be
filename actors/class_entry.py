"""What the kernel knows of one actor class in one system: looked up once in an actor's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pykka

if TYPE_CHECKING:
    from .actor import EventActor
    from .dispatcher import Dispatcher
    from .ref import EventRef
    from .statistics import ClassCounters


class ClassEntry:
    """One actor class in one system.

    Attributes:
        dispatcher: runs its actors.
        execute: its method that takes one that has messages.
        counters: what happened to them.
        living: its actors, from their start until they begin to stop. Changes under ``tree_lock``.
        has_on_start: whether the class has that hook. Without it an actor costs its dispatcher nothing before its first
            message.
        has_on_stop: the same for the end.
        has_on_gone: the same for ``EventActor.on_gone``.
    """

    __slots__ = ("counters", "dispatcher", "execute", "has_on_gone", "has_on_start", "has_on_stop", "living")

    def __init__(
        self,
        actor_class: type[EventActor],
        dispatcher: Dispatcher,
        counters: ClassCounters,
        living: dict[EventRef[Any], None],
    ) -> None:
        self.dispatcher = dispatcher
        self.execute: Callable[[Any], None] = dispatcher.execute
        self.counters = counters
        self.living = living
        self.has_on_start = actor_class.on_start is not pykka.Actor.on_start
        self.has_on_stop = actor_class.on_stop is not pykka.Actor.on_stop
        self.has_on_gone = actor_class.on_gone is not None
