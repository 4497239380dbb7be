"""Small actors for the kernel's tests."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar, Literal

from callboard.actors.actor import EventActor
from callboard.actors.ref import EventRef

PATIENCE_SECONDS = 10


class Recorder(EventActor):
    """Keeps what it receives; answers ``"received"`` with it and anything else with itself; may fail or stop."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if message == "received":
            return list(self.received)
        self.received.append(message)
        if isinstance(message, BaseException):
            raise message
        if message == "stop":
            self.stop()
        return message


class PoolRecorder(Recorder):
    dispatcher: ClassVar[Literal["loop", "pool"]] = "pool"


class Caller(EventActor):
    """Calls each message and answers with what it returns."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


class PoolCaller(Caller):
    dispatcher: ClassVar[Literal["loop", "pool"]] = "pool"


class Waiter(EventActor):
    """Its handler for an ``asyncio.Event`` waits for it; other messages it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []
        self.waiting = asyncio.Event()
        self.cancelled = False
        self.stopped = False

    async def on_receive(self, message: Any) -> Any:
        if isinstance(message, asyncio.Event):
            self.waiting.set()
            try:
                await message.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        else:
            self.received.append(message)
        return message

    def on_stop(self) -> None:
        self.stopped = True


class Parent(EventActor):
    """Spawns children of the given classes at its start and writes its own end to a journal."""

    def __init__(self, journal: list[str], *children: tuple[type[EventActor], tuple[Any, ...]]) -> None:
        super().__init__()
        self.journal = journal
        self.to_spawn = children
        self.children: list[EventRef[Any]] = []

    def on_start(self) -> None:
        self.children = [self.context.spawn(cls, *args) for cls, args in self.to_spawn]

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return self.children

    def on_stop(self) -> None:
        self.journal.append("parent")

    def on_failure(self, *_: Any) -> None:
        self.journal.append("parent failed")


class Child(EventActor):
    def __init__(self, name: str, journal: list[str]) -> None:
        super().__init__()
        self.name = name
        self.journal = journal

    def on_stop(self) -> None:
        self.journal.append(self.name)


def held(threads: threading.Event, entered: threading.Event) -> Any:
    """Return a message for a ``Caller`` whose handler says that it runs, and returns when it is let go."""

    def hold(_: Any) -> str:
        entered.set()
        assert threads.wait(PATIENCE_SECONDS)
        return "held"

    return hold
