"""Mailboxes: a user queue that can be bounded, a system queue that overtakes it, and closing without a gap.

There is no lock around an unbounded mailbox. Three rules replace it, each safe because ``deque`` operations and
``Lock.acquire(False)`` are atomic:

* The *scheduled* bit is a lock that nobody ever waits for. Whoever takes it hands the mailbox to its dispatcher; the
  dispatcher gives it back when both queues are empty and then looks again, so no wake-up is lost.
* A sender looks at ``closed``, appends, and looks at ``closed`` again. Whoever sees it closed after an append empties
  the queue. Each message is popped once, so it is answered once, however a send and a stop interleave.
* Queues are made when the first message comes: an empty ``deque`` is as big as everything else in an idle actor.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pykka.messages import _ActorStop

from .errors import ConfigurationError, MailboxFull
from .messages import Down, Piped, Request, Shutdown, SystemMessage, TimerFired

if TYPE_CHECKING:
    from pykka._envelope import Envelope


Overflow = Literal["raise", "drop_oldest", "drop_newest", "block"]
Dropping = Literal["drop_oldest", "drop_newest"]
_OVERFLOWS = ("raise", "drop_oldest", "drop_newest", "block")


@dataclass(frozen=True, slots=True)
class MailboxSpec:
    """How much a mailbox and a stash take, and what happens to more.

    Attributes:
        capacity: most user messages that may wait; None (default) sets no bound. Stop requests are never refused.
        overflow: what a full mailbox does. ``raise`` (default): the sender gets ``MailboxFull``. ``drop_oldest`` and
            ``drop_newest``: a message goes to dead letters and is counted. ``block``: the sender waits.
        block_timeout_seconds: how long ``block`` waits before it raises ``MailboxFull``; default 5.
        stash_capacity: most messages that may be stashed; default 1000.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    capacity: int | None = None
    overflow: Overflow = "raise"
    block_timeout_seconds: float = 5.0
    stash_capacity: int = 1000

    def __post_init__(self) -> None:
        if self.capacity is not None and self.capacity < 1:
            raise ConfigurationError(f"mailbox capacity {self.capacity!r}: expected 1 or more, or None for no bound")
        if self.overflow not in _OVERFLOWS:
            raise ConfigurationError(f"mailbox overflow {self.overflow!r}: expected one of {', '.join(_OVERFLOWS)}")
        if self.block_timeout_seconds < 0:
            raise ConfigurationError(f"block_timeout_seconds {self.block_timeout_seconds!r}: expected 0 or more")
        if self.stash_capacity < 0:
            raise ConfigurationError(f"stash_capacity {self.stash_capacity!r}: expected 0 or more")


UNBOUNDED = MailboxSpec()

# Guards the making of queues. One for all: it is taken once in an actor's life, and never while something blocks.
_making = threading.Lock()


def is_control(item: Any) -> bool:
    """Tell whether an entry of a user queue is one that no bound refuses and no policy drops."""
    if type(item) is Request:
        item = item.message
    return isinstance(item, (_ActorStop, Piped, TimerFired, Down, Shutdown))


class Mailbox:
    """The queues of one actor. ``Turns``, ``Lifecycle`` and ``ActorCell`` add what happens to the messages."""

    __slots__ = ("_execute", "_room", "_scheduled", "closed", "queue", "spec", "system_queue")

    _execute: Callable[[Any], None]
    """Has the dispatcher run the mailbox: by whoever takes its scheduled bit, or keeps it for another turn. Any thread.
    Set when the actor starts; until then the bit is taken."""

    def __init__(self, spec: MailboxSpec) -> None:
        self.queue: deque[Any] | None = None
        self.system_queue: deque[SystemMessage] | None = None
        self.closed = False
        # Taken until the actor starts: messages of its constructor wait for on_start.
        self._scheduled = scheduled = threading.Lock()
        scheduled.acquire()
        self.bound(spec)

    def bound(self, spec: MailboxSpec) -> None:
        """Set the bounds; before the actor starts, while nobody waits for room."""
        self.spec = spec
        self._room = None if spec.capacity is None else threading.Condition(threading.Lock())

    def post(self, item: Any) -> bool:
        """Append a message, or a ``Request``. Any thread.

        Returns:
            False if the mailbox is closed; the message is then still the caller's.

        Raises:
            MailboxFull: the mailbox is full and its policy refuses.
            WouldDeadlock: the policy is ``block`` and this thread is the one that would have to make room.
        """
        if self.closed:
            return False
        if self._room is not None:
            self._admit(self._room, item)
        else:
            queue = self.queue
            if queue is None:
                queue = self.make_queue()
            queue.append(item)
        if self._scheduled.acquire(False):
            self._execute(self)
        if self.closed:  # by another thread, since the first look
            self.drain()  # type: ignore[unreachable]
        return True

    def post_control(self, item: Any) -> bool:
        """Append like ``post``, past any bound: for stop requests, ends of others, the actor's own timers and pipes."""
        if self.closed:
            return False
        queue = self.queue
        if queue is None:
            queue = self.make_queue()
        queue.append(item)
        if self._scheduled.acquire(False):
            self._execute(self)
        if self.closed:  # by another thread, since the first look
            self.drain()  # type: ignore[unreachable]
        return True

    def post_system(self, message: SystemMessage, *, first: bool = False) -> None:
        """Append to the queue that overtakes, or put at its head. Any thread.

        After the actor's end nobody needs to read it.
        """
        queue = self.system_queue
        if queue is None:
            queue = self._make_system_queue()
        if first:
            queue.appendleft(message)
        else:
            queue.append(message)
        if self._scheduled.acquire(False):
            self._execute(self)

    def make_queue(self) -> deque[Any]:
        """Return the user queue; made now if nobody needed it before."""
        with _making:
            if self.queue is None:
                self.queue = deque()
            return self.queue

    def _make_system_queue(self) -> deque[SystemMessage]:
        with _making:
            if self.system_queue is None:
                self.system_queue = deque()
            return self.system_queue

    @property
    def depth(self) -> int:
        """How many user messages wait."""
        return len(self.queue) if self.queue else 0

    def drain(self) -> None:
        """Empty the queue of a closed mailbox. Any thread, any number of them."""
        while self.queue:
            try:
                item = self.queue.popleft()
            except IndexError:  # another thread drains too
                return
            self.undeliverable(item)

    def undeliverable(self, item: Any) -> None:
        """Answer, or record, a message that no handler will see."""
        raise NotImplementedError

    def overflowed(self, item: Any, policy: Dropping) -> None:
        """Answer, or record, a message that the policy dropped."""
        raise NotImplementedError

    def waiting_for_room(self) -> AbstractContextManager[None]:
        """Enter while a sender waits for room; raises ``WouldDeadlock`` if this thread would have to make it."""
        raise NotImplementedError

    # A bounded mailbox

    def _admit(self, room: threading.Condition, item: Any) -> None:
        capacity, overflow = self.spec.capacity, self.spec.overflow
        assert capacity is not None
        with room:
            queue = self.queue if self.queue is not None else self.make_queue()
            if len(queue) >= capacity and overflow == "block":
                with self.waiting_for_room():
                    room.wait_for(lambda: len(queue) < capacity or self.closed, self.spec.block_timeout_seconds)
            if len(queue) < capacity or self.closed:
                queue.append(item)
                return
            dropped = item
            if overflow == "drop_oldest" and not is_control(queue[0]):
                dropped = queue.popleft()
                queue.append(item)
        if overflow == "drop_oldest" or overflow == "drop_newest":
            self.overflowed(dropped, overflow)
        else:
            raise MailboxFull(self._full(capacity))

    def _full(self, capacity: int) -> str:
        waited = f" and stayed so for {self.spec.block_timeout_seconds} s" if self.spec.overflow == "block" else ""
        return (
            f"the mailbox of {self} has its {capacity} messages{waited}: send less, or slower, raise the capacity, "
            "or choose a policy that drops"
        )

    def take(self, queue: deque[Any]) -> Any:
        """Take the oldest message out. Only whoever holds the scheduled bit."""
        if self._room is None:
            return queue.popleft()
        with self._room:
            self._room.notify()
            return queue.popleft()

    def release_senders(self) -> None:
        """Let senders that wait for room go on, after the mailbox was closed."""
        if self._room is not None:
            with self._room:
                self._room.notify_all()

    # What pykka.Actor asks of an inbox; the kernel's own refs go the shorter way.

    def put(self, envelope: Envelope[Any], /) -> None:
        """Append a Pykka envelope."""
        message, reply_to = envelope.message, envelope.reply_to
        item = message if reply_to is None else Request(message, reply_to)  # type: ignore[arg-type]
        if not self.post(item):
            self.undeliverable(item)

    def get(self) -> Envelope[Any]:
        """Refuse: only the dispatcher takes messages out."""
        raise NotImplementedError("an EventActor's mailbox is emptied by its dispatcher; use tell() and ask()")

    def empty(self) -> bool:
        """Tell whether no user message waits."""
        return not self.queue
