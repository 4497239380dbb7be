from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.actors.actor import EventActor
from callboard.actors.errors import ConfigurationError, MailboxFull, WouldDeadlock
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.mailbox import MailboxSpec, Overflow
from callboard.actors.system import ActorSystem
from tests.actors.players import Caller, PoolRecorder, Recorder, held


class Bounded(Recorder):
    mailbox: ClassVar[MailboxSpec] = MailboxSpec(capacity=2)


def bounded(overflow: Overflow, capacity: int = 2, base: type[Recorder] = Recorder, **spec: Any) -> type[Recorder]:
    return type("Bounded", (base,), {"mailbox": MailboxSpec(capacity=capacity, overflow=overflow, **spec)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0}, "mailbox capacity 0: expected 1 or more"),
        ({"overflow": "explode"}, "mailbox overflow 'explode': expected one of raise, drop_oldest"),
        ({"block_timeout_seconds": -1}, "block_timeout_seconds -1: expected 0 or more"),
        ({"stash_capacity": -1}, "stash_capacity -1: expected 0 or more"),
    ],
)
def test_a_wrong_specification_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MailboxSpec(**arguments)


async def test_raise_refuses_the_sender_and_counts_nothing_as_sent(system: ActorSystem) -> None:
    ref = system.spawn(Bounded)
    ref.tell(1)
    ref.tell(2)
    with pytest.raises(MailboxFull, match="has its 2 messages: send less, or slower"):
        ref.tell(3)
    with pytest.raises(MailboxFull):
        await ref.ask(4, block=False)
    ref.send(5)
    assert [(letter.message, letter.reason) for letter in system.dead_letters.recent()] == [(5, "mailbox_full")]
    await asyncio.sleep(0)
    assert await ref.ask("received", block=False) == [1, 2]


async def test_drop_oldest_and_drop_newest_keep_the_others_in_order(system: ActorSystem) -> None:
    newest, oldest = system.spawn(bounded("drop_oldest")), system.spawn(bounded("drop_newest"))
    for number in range(5):
        newest.tell(number)
        oldest.tell(number)
    await asyncio.sleep(0)
    assert await newest.ask("received", block=False) == [3, 4]
    assert await oldest.ask("received", block=False) == [0, 1]
    assert system.dead_letters.counts() == {"drop_oldest": 3, "drop_newest": 3}
    assert system.statistics.snapshot().classes["Bounded"].dropped == 6


async def test_a_dropped_ask_is_answered(system: ActorSystem) -> None:
    ref = system.spawn(bounded("drop_oldest", capacity=1))
    answer = ref.ask("first", block=False)
    ref.tell("second")
    with pytest.raises(MailboxFull, match="policy is drop_oldest"):
        await answer
    assert len(system.dead_letters) == 0


async def test_no_policy_drops_or_refuses_a_stop(system: ActorSystem) -> None:
    for overflow in ("raise", "drop_oldest", "drop_newest", "block"):
        ref = system.spawn(bounded(overflow, capacity=1, block_timeout_seconds=0))
        ref.tell("fills it")
        stopped = ref.stop(block=False)
        if overflow == "drop_oldest":
            ref.tell("may push out the first message, but not the stop")
        assert await stopped
    assert system.dead_letters.counts() == {"drop_oldest": 1, "unhandled_at_stop": 1}


async def test_drop_oldest_drops_the_newest_where_the_oldest_is_a_stop(system: ActorSystem) -> None:
    ref = system.spawn(bounded("drop_oldest", capacity=1))
    stopped = ref.stop(block=False)
    ref.tell("pushes nothing out")
    assert await stopped
    assert (await ref.termination()).reason == "normal"
    assert [letter.message for letter in system.dead_letters.recent()] == ["pushes nothing out"]


async def test_a_message_that_comes_as_the_mailbox_goes_idle_is_handled(system: ActorSystem) -> None:
    """The sender finds it scheduled, the dispatcher has just found it empty."""
    ref = system.spawn(Recorder)
    await ref.ask("first", block=False)
    cell = ref.actor_inbox
    cell._scheduled = LateSender(cell._scheduled, lambda: ref.tell("late"))  # type: ignore[assignment]
    ref.tell("second")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert cell.actor.received == ["first", "second", "late"]


async def test_an_actor_that_becomes_ready_as_the_loop_goes_idle_is_run(system: ActorSystem) -> None:
    ref, other = system.spawn(Recorder), system.spawn(Recorder)
    await ref.ask("first", block=False)
    await asyncio.sleep(0)
    dispatcher = system.loop_dispatcher
    dispatcher._armed = LateSender(dispatcher._armed, lambda: other.tell("late"))  # type: ignore[assignment]
    ref.tell("second")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert other.actor_inbox.actor.received == ["late"]


class LateSender:
    """A lock whose first release is overtaken by a sender."""

    def __init__(self, lock: threading.Lock, send: Callable[[], object]) -> None:
        self.acquire = lock.acquire
        self.lock = lock
        self.send: Callable[[], object] | None = send

    def release(self) -> None:
        send, self.send = self.send, None
        if send is not None:
            send()
        self.lock.release()


def test_block_waits_for_room(threaded_system: ActorSystem) -> None:
    let_go, entered = threading.Event(), threading.Event()
    blocking = type("Blocking", (Caller,), {"mailbox": MailboxSpec(capacity=1, overflow="block")})
    ref = threaded_system.spawn(blocking)
    ref.tell(held(let_go, entered))
    assert entered.wait(10)
    ref.tell(lambda _: None)
    sent = threading.Event()
    sender = threading.Thread(target=lambda: (ref.tell(lambda _: None), sent.set()))
    sender.start()
    let_go.set()
    assert sent.wait(10)
    sender.join()


def test_block_gives_up_after_its_timeout(threaded_system: ActorSystem) -> None:
    let_go, entered = threading.Event(), threading.Event()
    spec = MailboxSpec(capacity=1, overflow="block", block_timeout_seconds=0.01)
    ref = threaded_system.spawn(type("Blocking", (Caller,), {"mailbox": spec}))
    ref.tell(held(let_go, entered))
    assert entered.wait(10)
    ref.tell(lambda _: None)
    with pytest.raises(MailboxFull, match=r"stayed so for 0\.01 s"):
        ref.tell(lambda _: None)
    let_go.set()


def test_a_sender_that_waits_for_room_learns_of_the_end(threaded_system: ActorSystem) -> None:
    let_go, entered = threading.Event(), threading.Event()
    spec = MailboxSpec(capacity=1, overflow="block", block_timeout_seconds=30)
    ref = threaded_system.spawn(type("Blocking", (Caller,), {"mailbox": spec}))
    ref.tell(held(let_go, entered))
    assert entered.wait(10)
    ref.tell(lambda _: None)
    answers: list[Any] = []
    sender = threading.Thread(target=lambda: answers.append(ref.ask(lambda _: "too late", block=False)))
    sender.start()
    ref.shutdown()
    let_go.set()
    sender.join()
    with pytest.raises(pykka.ActorDeadError):
        answers[0].get()


async def test_block_on_the_loops_own_thread_would_deadlock(system: ActorSystem) -> None:
    ref = system.spawn(bounded("block", capacity=1))
    ref.tell(1)
    with pytest.raises(WouldDeadlock, match="waiting for room in the full mailbox of Bounded"):
        ref.tell(2)


def test_an_actor_that_fills_its_own_blocking_mailbox_would_deadlock(threaded_system: ActorSystem) -> None:
    """Pykka with a bounded queue hangs here."""

    class Selfish(EventActor):
        dispatcher = "pool"
        mailbox = MailboxSpec(capacity=1, overflow="block", block_timeout_seconds=30)

        def on_receive(self, message: Any) -> None:
            self.actor_ref.tell("fits")
            self.actor_ref.tell("does not")

    with pytest.raises(WouldDeadlock, match="its own full mailbox"):
        threaded_system.spawn(Selfish).ask("begin")


async def test_a_stopped_mailbox_refuses_tell_and_answers_ask(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    await ref.stop(block=False)
    with pytest.raises(pykka.ActorDeadError, match="not found"):
        ref.tell(1)
    with pytest.raises(pykka.ActorDeadError, match="not found"):
        await ref.ask(1, block=False)
    ref.send("late")
    assert [(letter.message, letter.reason) for letter in system.dead_letters.recent()] == [("late", "stopped")]
    assert await ref.stop(block=False) is False


async def test_what_waits_at_the_end_is_answered_or_becomes_a_dead_letter(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    ref.tell("told")
    asked, stop = ref.ask("asked", block=False), ref.stop(block=False)
    ref.shutdown()
    with pytest.raises(pykka.ActorDeadError, match="stopped before handling the message"):
        await asked
    assert await stop is True
    assert [(letter.message, letter.reason) for letter in system.dead_letters.recent()] == [
        ("told", "unhandled_at_stop")
    ]


@pytest.mark.parametrize("actor_class", [Recorder, PoolRecorder])
def test_messages_told_while_an_actor_stops_are_handled_or_counted(
    threaded_system: ActorSystem, actor_class: type[Recorder]
) -> None:
    """Nothing is lost: handled + dead letters + refused = told, however sends and the stop interleave."""
    told, refused, tellers = 0, [0, 0, 0], 3
    for _ in range(20):
        ref = threaded_system.spawn(actor_class)
        begin = threading.Barrier(tellers + 1)

        def tell_often(index: int, ref: Any = ref, begin: threading.Barrier = begin) -> None:
            begin.wait()
            for number in range(300):
                try:
                    ref.tell(number)
                except pykka.ActorDeadError:
                    refused[index] += 1

        threads = [threading.Thread(target=tell_often, args=(index,)) for index in range(tellers)]
        for thread in threads:
            thread.start()
        begin.wait()
        ref.shutdown()
        for thread in threads:
            thread.join()
        ref.termination().get(timeout=10)
        told += tellers * 300
    handled = threaded_system.statistics.snapshot().classes[actor_class.__name__].handled
    assert handled + len(threaded_system.dead_letters) + sum(refused) == told


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 4),
    overflow=st.sampled_from(["raise", "drop_oldest", "drop_newest"]),
    steps=st.lists(st.sampled_from(["tell", "turn"]), max_size=30),
)
def test_a_bounded_mailbox_agrees_with_a_model(capacity: int, overflow: Overflow, steps: list[str]) -> None:
    asyncio.run(_against_model(capacity, overflow, steps))


async def _against_model(capacity: int, overflow: Overflow, steps: list[str]) -> None:
    system = ActorSystem(loop_dispatcher=LoopDispatcher.attach())
    ref = system.spawn(bounded(overflow, capacity))
    waiting: deque[int] = deque()
    handled: list[int] = []
    for number, step in enumerate(steps):
        if step == "turn":
            await asyncio.sleep(0)
            handled.extend(waiting)
            waiting.clear()
            continue
        full = len(waiting) == capacity
        if full and overflow == "raise":
            with pytest.raises(MailboxFull):
                ref.tell(number)
            continue
        ref.tell(number)
        if full and overflow == "drop_oldest":
            waiting.popleft()
        if not full or overflow == "drop_oldest":
            waiting.append(number)
        assert ref.mailbox_depth == len(waiting)
    await asyncio.sleep(0)
    assert await ref.ask("received", block=False) == handled + list(waiting)
    await system.aclose()
