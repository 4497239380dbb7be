"""The kernel's own messages: what an actor may receive from it, and what travels between its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .future import EventFuture
    from .ref import EventRef

NORMAL: Final = "normal"
"""The actor stopped itself, or somebody called Pykka's ``stop()``."""

SHUTDOWN: Final = "shutdown"
"""The actor was told to stop by its parent, its supervisor or its system."""

KILLED: Final = "killed"
"""The actor was killed: no hook ran, a running async handler was cancelled."""

ERROR: Final = "error"
"""The actor failed; ``Terminated.exception`` says how."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """An actor that was watched has ended, with everything below it. Received once, ahead of waiting user messages.

    Attributes:
        ref: which one.
        reason: ``normal``, ``shutdown``, ``killed``, ``error``, or the text given to ``EventRef.shutdown()`` or
            ``Stop``, which is OTP's ``{shutdown, Text}``.
        exception: what the actor failed with, where ``reason`` is ``error``; or what it says beside its reason, as a
            supervisor does that gave up.
    """

    ref: EventRef[Any]
    reason: str
    exception: BaseException | None = None

    @property
    def abnormal(self) -> bool:
        """Whether it ended otherwise than by ``normal``, ``shutdown`` or a shutdown with a text (OTP's rule C2)."""
        return self.reason == ERROR or self.reason == KILLED


class Request:
    """A message in a mailbox whose sender waits for an answer. Messages without one lie there bare."""

    __slots__ = ("message", "reply_to")

    def __init__(self, message: Any, reply_to: EventFuture[Any]) -> None:
        self.message = message
        self.reply_to = reply_to


class TimerFired:
    """A keyed timer's message on its way. Made by each start of the timer: only the latest start's is delivered."""

    __slots__ = ("key", "message")

    def __init__(self, key: object, message: Any) -> None:
        self.key = key
        self.message = message


@dataclass(frozen=True, slots=True)
class Started:
    """How an actor's start went.

    Attributes:
        result: what ``on_start`` returned.
        exception: why the actor did not start; it is gone. None if it did.
    """

    result: Any = None
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A child does its work: what kept its earlier incarnations from it is over."""

    ref: EventRef[Any]


class Down:
    """The end of an actor that is watched in mailbox order; delivered as ``Terminated``."""

    __slots__ = ("terminated",)

    def __init__(self, terminated: Terminated) -> None:
        self.terminated = terminated


class Piped:
    """The outcome of an awaitable given to ``pipe_to_self``; made into a message in the actor's own turn."""

    __slots__ = ("make_message", "value")

    def __init__(self, make_message: Callable[[Any], Any], value: Any) -> None:
        self.make_message = make_message
        self.value = value


# What the system queue carries besides ``Terminated``.


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Stop after the current message. An actor that traps it (``EventActor.traps_shutdown``) receives it instead."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exit:
    """Stop after the current message, trapped or not: the actor itself wants it."""

    reason: str
    exception: BaseException | None


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop at once."""


@dataclass(frozen=True, slots=True)
class Suspend:
    """Handle no user message until as many ``Resume`` have come."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Undo one ``Suspend``."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Fail as if a handler had raised ``exception``."""

    exception: BaseException


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A child has ended, with everything below it."""


SystemMessage = Terminated | Shutdown | Exit | Kill | Suspend | Resume | Fail | ChildEnded
