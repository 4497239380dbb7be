"""Who is alive in a system: found by URN, class or name in constant time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ActorError
from .tree_lock import tree_lock

if TYPE_CHECKING:
    from .actor import EventActor
    from .ref import EventRef

A = TypeVar("A", bound="EventActor")


class Registry:
    """The live actors of one system. Thread-safe: it changes under ``tree_lock``, which its callers hold.

    An actor is in it from its start until it begins to stop, so that a name is free for the next incarnation before
    anybody hears of the end of the last one.
    """

    def __init__(self) -> None:
        self._by_class: dict[type[Any], dict[EventRef[Any], None]] = {}
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
        with tree_lock:
            return [ref for cls, refs in self._by_class.items() if issubclass(cls, actor_class) for ref in refs]

    def get_by_class_name(self, class_name: str) -> list[EventRef[Any]]:
        """Return the actors whose class has this name."""
        with tree_lock:
            return [ref for cls, refs in self._by_class.items() if cls.__name__ == class_name for ref in refs]

    def of_exactly(self, actor_class: type[A]) -> list[EventRef[A]]:
        """Return the actors of a class, subclasses left out."""
        with tree_lock:
            return list(self._by_class.get(actor_class, ()))

    def get_all(self) -> list[EventRef[Any]]:
        """Return all actors, by class, in the order of their start."""
        with tree_lock:
            return [ref for refs in self._by_class.values() for ref in refs]

    def __len__(self) -> int:
        with tree_lock:
            return sum(map(len, self._by_class.values()))

    # For the kernel

    def living(self, actor_class: type[Any]) -> dict[EventRef[Any], None]:
        """Return where the actors of exactly this class are entered, and taken out when they stop."""
        with tree_lock:
            return self._by_class.setdefault(actor_class, {})

    def add_name(self, name: str, ref: EventRef[Any]) -> None:
        """Enter the name of an actor that starts.

        Raises:
            ActorError: it is taken.
        """
        holder = self._by_name.setdefault(name, ref)
        if holder is not ref:
            raise ActorError(
                f"the name {name!r} is taken by {holder}: expected one that no live actor of the system has; "
                "stop that actor first, or choose another name"
            )

    def add_urn(self, urn: str, ref: EventRef[Any]) -> None:
        """Enter a live actor's URN. It is made when first asked for: nobody can look for one that nobody has seen."""
        self._by_urn[urn] = ref

    def remove_names(self, name: str | None, urn: str | None) -> None:
        """Take out what an actor that stops was found by."""
        if name is not None:
            del self._by_name[name]
        if urn is not None:
            self._by_urn.pop(urn, None)
