"""What a kill cannot end is abandoned: threads in handlers and hooks, coroutines that swallow their cancellation."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import MailboxFull
from callboard.actors.mailbox import MailboxSpec
from callboard.actors.messages import Shutdown
from callboard.actors.system import ActorSystem
from tests.actors.players import PATIENCE_SECONDS
from tests.support.waiting import wait_until


class Hang:
    """A place to hang in, until released."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    def here(self) -> None:
        self.reached.set()
        self.released.wait(PATIENCE_SECONDS)


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.released.set()


class HangsInHooks(EventActor):
    dispatcher = "pool"

    def __init__(self, hang: Hang, hook: str) -> None:
        super().__init__()
        self.hang = hang
        self.hook = hook

    def on_start(self) -> None:
        if self.hook == "on_start":
            self.hang.here()

    def on_stop(self) -> None:
        if self.hook == "on_stop":
            self.hang.here()

    def on_failure(self, *_: object) -> None:
        if self.hook == "on_failure":
            self.hang.here()

    def on_receive(self, message: Any) -> None:
        raise ValueError(message)


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_failure"])
def test_a_thread_that_hangs_in_a_hook_is_abandoned(threaded_system: ActorSystem, hang: Hang, hook: str) -> None:
    ref = threaded_system.spawn(HangsInHooks, hang, hook)
    if hook == "on_stop":
        ref.shutdown()
    elif hook == "on_failure":
        ref.tell("fail")
    assert hang.reached.wait(PATIENCE_SECONDS)
    ref.kill()
    assert ref.termination().get(timeout=PATIENCE_SECONDS).reason == "killed"
    pool = threaded_system.pool_dispatcher
    assert pool.abandoned_threads == 1
    hang.released.set()
    wait_until(lambda: pool.abandoned_threads == 0)
    assert ref.termination().get(timeout=0).reason == "killed", "what the thread did later came to nothing"


class Swallows(EventActor):
    """Its coroutine swallows every cancellation until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Any] = []

    async def on_receive(self, message: Any) -> None:
        if isinstance(message, type):
            self.children.append(self.context.spawn(message))
            return
        message.reached.set()
        while not message.released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue


class PoolSwallows(Swallows):
    dispatcher = "pool"


def test_a_coroutine_on_a_pool_that_swallows_a_kill_is_abandoned(threaded_system: ActorSystem, hang: Hang) -> None:
    ref = threaded_system.spawn(PoolSwallows)
    answer = ref.ask(hang, block=False)
    assert hang.reached.wait(PATIENCE_SECONDS)
    ref.abandon()
    assert ref.is_alive(), "it was not killed"
    ref.kill()
    ref.abandon()
    assert ref.termination().get(timeout=PATIENCE_SECONDS).reason == "killed"
    with pytest.raises(pykka.ActorDeadError):
        answer.get(timeout=PATIENCE_SECONDS)
    pool = threaded_system.pool_dispatcher
    assert pool.abandoned_threads == 1
    hang.released.set()
    wait_until(lambda: pool.abandoned_threads == 0)


@pytest.mark.parametrize("actor_class", [Swallows, PoolSwallows])
def test_who_waits_for_a_child_that_swallows_its_kill_is_abandoned_with_it(
    threaded_system: ActorSystem, hang: Hang, actor_class: type[Swallows]
) -> None:
    parent = threaded_system.spawn(Swallows)
    parent.ask(actor_class)
    (child,) = threaded_system.registry.of_exactly(actor_class)[-1:]
    child.tell(hang)
    assert hang.reached.wait(PATIENCE_SECONDS)
    parent.kill()
    wait_until(lambda: child.actor_inbox.killing)
    assert not parent.termination().is_done, "children end first, and this one does not"
    parent.abandon()
    assert parent.termination().get(timeout=PATIENCE_SECONDS).reason == "killed"
    assert child.termination().get(timeout=PATIENCE_SECONDS).reason == "killed"


class Traps(EventActor):
    traps_shutdown = True
    mailbox = MailboxSpec(capacity=1)

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.received.append(message)
        match message:
            case Shutdown(reason):
                self.context.exit(reason)
            case "remind":
                self.actor_ref.tell("fills the mailbox")
                self.context.tell_self("reminder")
                with pytest.raises(MailboxFull):
                    self.actor_ref.tell("too much")
        return self.received


async def test_who_traps_shutdowns_receives_a_stop_as_one(system: ActorSystem) -> None:
    ref = system.spawn(Traps)
    received = await ref.ask("first", block=False)
    end = ref.termination()
    assert await ref.stop(block=False)
    assert received == ["first", Shutdown("normal")]
    assert (await end).reason == "normal"


async def test_a_message_to_oneself_is_the_newest_and_passes_the_bound(system: ActorSystem) -> None:
    ref = system.spawn(Traps)
    received = await ref.ask("remind", block=False)
    while ref.mailbox_depth:
        await asyncio.sleep(0)
    assert received == ["remind", "fills the mailbox", "reminder"]
