"""What a supervisor is asked, and what it answers. Refusals are answers, not exceptions: they hurt nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from callboard.actors.actor import EventActor
from callboard.actors.ref import EventRef

from .child_spec import ChildSpec, ChildType
from .supervisor_flags import SupervisorFlags

ChildState: TypeAlias = Literal["running", "restarting", "stopped"]
ChildKey: TypeAlias = str | EventRef[Any]
"""What names a child: its id; or, below a dynamic supervisor, its reference."""


@dataclass(frozen=True, slots=True)
class StartChild:
    """Add a child and start it. Answer: ``ChildStarted``, ``Refused`` or ``StartFailed`` (then it is not added)."""

    spec: ChildSpec | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StartDynamicChild:
    """Start one more child of a dynamic supervisor. Answer: ``ChildStarted``, ``Refused`` or ``StartFailed``.

    Attributes:
        args: come behind those of the specification, at each restart too (rule D7).
        kwargs: are added to those of the specification.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child; it is not restarted. Answer once it is dead: ``Done``, also if it was down; or ``Refused``.

    A temporary child is then forgotten; others can be started again by ``RestartChild``.
    """

    id: ChildKey


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

    id: ChildKey


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """Answer: a tuple of ``ChildStatus``, newest first."""


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Answer: ``ChildCounts``."""


@dataclass(frozen=True, slots=True)
class CodeChange:
    """Go on with other flags and specifications, as OTP's ``code_change`` (rule H11). Answer: ``Done`` or ``Refused``.

    A child whose id is in the new list goes on as it is, restarts before it included, and is treated by its new
    specification from now on. What is new is added, and not started: ``RestartChild`` does that. What is missing is
    kept, behind the others. The restarts of the past still count. Lost when the supervisor itself is restarted.

    Below a dynamic supervisor the new specification holds for the children that run, too; they are restarted with the
    arguments that they were started with. Those that are temporary stay so, as nobody knows their arguments any more.

    Attributes:
        flags: None (default): those that ``Supervisor.init`` returns now; a dynamic supervisor's stay.
        children: all of them, for a dynamic supervisor the one. None (default): those that ``Supervisor.init`` returns
            now; a dynamic supervisor's stays.
    """

    flags: SupervisorFlags | None = None
    children: Iterable[ChildSpec | Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The child runs; or it was not needed.

    Attributes:
        ref: the child; None if its ``on_start`` raised ``Ignore`` (rules B4 and B5).
        info: what its ``on_start`` returned (rule B3).
    """

    ref: EventRef[Any] | None
    info: Any = None


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The child did not start. Nothing is retried or counted."""

    exception: BaseException


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be done; nothing changed.

    Attributes:
        reason: OTP's name of it. ``not_found``: no child has the id. ``running``, ``restarting``: only a child that is
            down can be restarted or deleted. ``already_started``: a child of this id runs. ``already_present``: one is
            there, down. ``simple_one_for_one``: children of a dynamic supervisor have no ids. ``max_children``: it has
            as many as it may. ``init_failed``: ``Supervisor.init`` raised. Any other: what is wrong with the
            specification (``InvalidSpecification.reason``).
        ref: the running child, with ``already_started``.
        message: what is wrong with the specification, what was expected.
    """

    reason: str
    ref: EventRef[Any] | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child now.

    Attributes:
        id: its id; None below a dynamic supervisor.
        ref: the incarnation that runs; None unless ``state`` is ``running``.
        state: ``running``, ``restarting`` (it will be tried again) or ``stopped``.
        child_type: as specified.
        actor_class: as specified.
        restarts: how often its supervisor has started it again, attempts that failed included.
    """

    id: str | None
    ref: EventRef[Any] | None
    state: ChildState
    child_type: ChildType
    actor_class: type[EventActor]
    restarts: int


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children there are: ``specs`` in all, of them ``active`` ones that live; and all, by type."""

    specs: int
    active: int
    supervisors: int
    workers: int
