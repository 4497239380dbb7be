"""What a supervisor is asked, and what it answers. Refusals are answers, not exceptions: they hurt nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from callboard.actors.messages import SHUTDOWN
from callboard.actors.ref import EventRef

from .child_spec import ChildSpec, ChildType

ChildState: TypeAlias = Literal["running", "restarting", "stopped"]
Refusal: TypeAlias = Literal["not_found", "running", "restarting", "already_started", "already_present"]


@dataclass(frozen=True, slots=True)
class StartChild:
    """Add a child and start it. Answer: ``ChildStarted``, ``Refused`` or ``StartFailed`` (then it is not added)."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child; it is not restarted. Answer once it is dead: ``Done``, also if it was down; or ``Refused``.

    A temporary child is then forgotten; others can be started again by ``RestartChild``.
    """

    id: str


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a child that is down. Answer: ``ChildStarted``, ``Refused`` or ``StartFailed`` (it stays down)."""

    id: str


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget a child that is down. Answer: ``Done`` or ``Refused``."""

    id: str


@dataclass(frozen=True, slots=True)
class GetChildSpec:
    """Answer: the ``ChildSpec``, defaults filled in, or ``Refused``."""

    id: str


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """Answer: a tuple of ``ChildStatus``, newest first."""


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Answer: ``ChildCounts``."""


@dataclass(frozen=True, slots=True)
class StopSupervisor:
    """End the children, the last first, each as its specification says; then the supervisor, with this reason.

    Answer once the children are dead: ``Done``. A plain ``shutdown`` of the supervisor also ends its children first,
    the youngest incarnation first, and waits for each without limit.
    """

    reason: str = SHUTDOWN


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The child runs."""

    ref: EventRef[Any]


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The child did not start. Nothing is retried or counted."""

    exception: BaseException


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be done now; nothing changed.

    Attributes:
        reason: ``not_found``: no child has the id. ``running``, ``restarting``: only a child that is down can be
            restarted or deleted. ``already_started``: a child of this id runs. ``already_present``: one is there, down.
        ref: the running child, with ``already_started``.
    """

    reason: Refusal
    ref: EventRef[Any] | None = None


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child now.

    Attributes:
        ref: the incarnation that runs; None unless ``state`` is ``running``.
        state: ``running``, ``restarting`` (it will be tried again) or ``stopped``.
    """

    id: str
    ref: EventRef[Any] | None
    state: ChildState
    child_type: ChildType


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children there are: ``specs`` in all, of them ``active`` ones that live; and all, by type."""

    specs: int
    active: int
    supervisors: int
    workers: int
