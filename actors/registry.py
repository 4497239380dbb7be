"""Who is alive in a system: found by URN, class or name in constant time."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ActorError

if TYPE_CHECKING:
    from .actor import EventActor
    from .ref import EventRef

A = TypeVar("A", bound="EventActor")


class Registry:
    """The live actors of one system. Thread-safe.

    An actor is in it from its start until it begins to stop, so that a name is free for the next incarnation before
    anybody hears of the end of the last one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_class: dict[type[Any], dict[EventRef[Any], None]] = {}
        self._entered: Counter[type[Any]] = Counter()
        self._by_name: dict[str, EventRef[Any]] = {}
        self._by_urn: dict[str, EventRef[Any]] = {}

    def get(self, name: str) -> EventRef[Any] | None:
        """Return the actor of this name."""
        return self._by_name.get(name)

    def get_by_urn(self, urn: str) -> EventRef[Any] | None:
        """Return the actor of this URN."""
        return self._by_urn.get(urn)

    def get_by_class(self, actor_class: type[A]) -> list[EventRef[A]]:
        """Return the actors of a class and its subclasses. Cost grows with the number of classes and of results."""
        with self._lock:
            return [ref for cls, refs in self._by_class.items() if issubclass(cls, actor_class) for ref in refs]

    def get_by_class_name(self, class_name: str) -> list[EventRef[Any]]:
        """Return the actors whose class has this name."""
        with self._lock:
            return [ref for cls, refs in self._by_class.items() if cls.__name__ == class_name for ref in refs]

    def of_exactly(self, actor_class: type[A]) -> list[EventRef[A]]:
        """Return the actors of a class, subclasses left out."""
        with self._lock:
            return list(self._by_class.get(actor_class, ()))

    def get_all(self) -> list[EventRef[Any]]:
        """Return all actors, by class, in the order of their start."""
        with self._lock:
            return [ref for refs in self._by_class.values() for ref in refs]

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._by_class.values()))

    def entered(self, actor_class: type[Any]) -> int:
        """Return how many actors of exactly this class were ever started."""
        with self._lock:
            return self._entered[actor_class]

    # For the kernel

    def add(self, ref: EventRef[Any], actor_class: type[Any], name: str | None) -> None:
        """Enter an actor that starts.

        Raises:
            ActorError: the name is taken.
        """
        with self._lock:
            if name is not None:
                holder = self._by_name.setdefault(name, ref)
                if holder is not ref:
                    raise ActorError(
                        f"the name {name!r} is taken by {holder}: expected one that no live actor of the system has; "
                        "stop that actor first, or choose another name"
                    )
            refs = self._by_class.get(actor_class)
            if refs is None:
                refs = self._by_class[actor_class] = {}
            refs[ref] = None
            self._entered[actor_class] += 1

    def add_urn(self, urn: str, ref: EventRef[Any]) -> None:
        """Enter a live actor's URN. It is made when first asked for: nobody can look for one that nobody has seen."""
        self._by_urn[urn] = ref

    def remove(self, ref: EventRef[Any], actor_class: type[Any], name: str | None, urn: str | None) -> None:
        """Take out an actor that stops."""
        with self._lock:
            del self._by_class[actor_class][ref]
            if name is not None:
                del self._by_name[name]
            if urn is not None:
                self._by_urn.pop(urn, None)
