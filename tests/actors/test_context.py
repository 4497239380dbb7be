from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import ActorError, StashOverflow
from callboard.actors.mailbox import MailboxSpec
from callboard.actors.system import ActorSystem
from tests.actors.players import Caller, PoolCaller, Recorder
from tests.supervision.theatre import TimerClock


class Timed(Recorder):
    """Does what a message that can be called wants with its context, and keeps the others."""

    def on_receive(self, message: Any) -> Any:
        return message(self.context) if callable(message) else super().on_receive(message)


class PoolTimed(Timed):
    dispatcher = "pool"


# Timers


async def test_a_timer_delivers_once_after_its_delay(timed_system: ActorSystem, timer_clock: TimerClock) -> None:
    ref = timed_system.spawn(Timed)
    await ref.ask(lambda context: context.start_timer("once", 5, "tick"), block=False)
    timer_clock.advance(4)
    assert await ref.ask("received", block=False) == []
    timer_clock.advance(1)
    timer_clock.advance(100)
    assert await ref.ask("received", block=False) == ["tick"]


async def test_a_repeating_timer_counts_from_each_delivery(timed_system: ActorSystem, timer_clock: TimerClock) -> None:
    ref = timed_system.spawn(Timed)
    await ref.ask(lambda context: context.start_timer("often", 5, "tick", repeat=True), block=False)
    timer_clock.advance(100)  # many intervals, but one message
    assert await ref.ask("received", block=False) == ["tick"]
    assert timer_clock.delays() == [5]
    timer_clock.advance(5)
    assert await ref.ask("received", block=False) == ["tick", "tick"]


@pytest.mark.parametrize(
    ("then", "delivered"),
    [
        (lambda context: context.cancel_timer("key"), []),
        (lambda context: context.start_timer("key", 5, "new"), []),
        (lambda context: context.start_timer("other", 5, "new"), ["old"]),
    ],
)
async def test_a_fired_timer_that_was_cancelled_or_restarted_is_not_delivered(
    timed_system: ActorSystem, timer_clock: TimerClock, then: Any, delivered: list[str]
) -> None:
    ref = timed_system.spawn(Timed)
    await ref.ask(lambda context: context.start_timer("key", 5, "old"), block=False)
    ref.tell(then)  # handled first: the timer's message comes to lie behind it
    timer_clock.advance(5)
    assert ref.mailbox_depth == 2
    assert await ref.ask("received", block=False) == delivered


async def test_cancel_timer_tells_whether_there_was_one(timed_system: ActorSystem) -> None:
    ref = timed_system.spawn(Timed)
    await ref.ask(lambda context: context.start_timer("key", 5, "tick"), block=False)
    assert await ref.ask(lambda context: context.cancel_timer("key"), block=False) is True
    assert await ref.ask(lambda context: context.cancel_timer("key"), block=False) is False


async def test_timers_die_with_their_actor(timed_system: ActorSystem, timer_clock: TimerClock) -> None:
    ref = timed_system.spawn(Timed)
    await ref.ask(lambda context: context.start_timer("key", 5, "tick", repeat=True), block=False)
    await ref.stop(block=False)
    assert timer_clock.delays() == []
    assert len(timed_system.dead_letters) == 0


async def test_a_negative_delay_is_refused(timed_system: ActorSystem) -> None:
    ref = timed_system.spawn(Timed)
    with pytest.raises(ValueError, match="timer 'key': a delay of -1 s; expected 0 or more"):
        await ref.ask(lambda context: context.start_timer("key", -1, "tick"), block=False)


async def test_a_timer_passes_a_full_mailbox(timed_system: ActorSystem, timer_clock: TimerClock) -> None:
    class Small(Timed):
        mailbox: ClassVar[MailboxSpec] = MailboxSpec(capacity=1)

    ref = timed_system.spawn(Small)
    await ref.ask(lambda context: context.start_timer("key", 5, "tick"), block=False)
    ref.tell("fills it")
    timer_clock.advance(5)
    await asyncio.sleep(0)
    assert await ref.ask("received", block=False) == ["fills it", "tick"]


@pytest.mark.parametrize("actor_class", [Timed, PoolTimed])
def test_timers_follow_the_event_loop_without_a_clock_of_their_own(
    threaded_system: ActorSystem, actor_class: type[Timed]
) -> None:
    done = threaded_system.spawn(actor_class)
    ended = done.termination()
    done.tell(lambda context: context.start_timer("cancelled", 0.001, ValueError("cancelled")))
    done.tell(lambda context: context.cancel_timer("cancelled"))
    done.tell(lambda context: context.start_timer("stop", 0.01, "stop"))
    assert ended.get(timeout=10).reason == "normal"


# Stash


class Door(EventActor):
    """Stashes what comes until it is opened."""

    mailbox: ClassVar[MailboxSpec] = MailboxSpec(stash_capacity=2)

    def __init__(self) -> None:
        super().__init__()
        self.open = False
        self.passed: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if message == "open":
            self.open = True
            self.context.unstash_all()
        elif not self.open:
            self.context.stash()
        else:
            self.passed.append(message)
        return list(self.passed)


async def test_stashed_messages_come_back_in_order_ahead_of_new_ones(system: ActorSystem) -> None:
    ref = system.spawn(Door)
    for message in ("one", "two", "open", "three"):
        ref.tell(message)
    assert await ref.ask("four", block=False) == ["one", "two", "three", "four"]


async def test_a_stashed_ask_is_answered_when_it_is_handled(system: ActorSystem) -> None:
    ref = system.spawn(Door)
    answer = asyncio.ensure_future(ref.ask("asked", block=False))
    await asyncio.sleep(0)
    assert not answer.done()
    ref.tell("open")
    assert await answer == ["asked"]


async def test_a_full_stash_refuses(system: ActorSystem) -> None:
    ref = system.spawn(Door)
    ref.tell("one")
    ref.tell("two")
    with pytest.raises(StashOverflow, match=r"the stash of Door .* has its 2 messages"):
        await ref.ask("three", block=False)


async def test_a_stash_ends_with_its_actor_like_a_mailbox(system: ActorSystem) -> None:
    ref = system.spawn(Door)
    ref.tell("told")
    asked = ref.ask("asked", block=False)
    await ref.stop(block=False)
    with pytest.raises(pykka.ActorDeadError):
        await asked
    assert [letter.message for letter in system.dead_letters.recent()] == ["told"]


async def test_a_message_can_be_stashed_once_and_only_while_it_is_handled(system: ActorSystem) -> None:
    class Greedy(EventActor):
        def on_start(self) -> None:
            with pytest.raises(ActorError, match="handles no message that it could stash"):
                self.context.stash()

        def on_receive(self, message: Any) -> None:
            self.context.stash()
            self.context.stash()

    ref = system.spawn(Greedy)
    ref.tell("once")
    assert isinstance((await ref.termination()).exception, ActorError)


# Pipes


@pytest.mark.parametrize("actor_class", [Timed, PoolTimed])
async def test_an_outcome_becomes_a_message(system: ActorSystem, actor_class: type[Timed]) -> None:
    async def succeed() -> int:
        await asyncio.sleep(0)
        return 7

    async def fail() -> int:
        await asyncio.sleep(0)
        raise LookupError("no")

    ref = system.spawn(actor_class)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def count(outcome: Any) -> Any:
        outcomes.append(outcome)
        if len(outcomes) == 2:
            loop.call_soon_threadsafe(arrived.set)
        return str(outcome)

    outcomes: list[Any] = []
    await ref.ask(lambda context: context.pipe_to_self(succeed(), count, repr), block=False)
    await ref.ask(lambda context: context.pipe_to_self(fail(), repr, count), block=False)
    await arrived.wait()
    assert sorted(await ref.ask("received", block=False)) == ["7", "no"]


async def test_a_failed_pipe_without_a_mapping_ends_the_actor(system: ActorSystem) -> None:
    async def fail() -> None:
        raise LookupError("no")

    ref = system.spawn(Timed)
    ref.tell(lambda context: context.pipe_to_self(fail()))
    assert repr((await ref.termination()).exception) == "LookupError('no')"


async def test_a_mapping_that_fails_ends_the_actor(system: ActorSystem) -> None:
    ref = system.spawn(Timed)
    ref.tell(lambda context: context.pipe_to_self(asyncio.sleep(0, "x"), int, repr))
    assert isinstance((await ref.termination()).exception, ValueError)


async def test_the_end_cancels_piped_coroutines_and_leaves_futures_alone(system: ActorSystem) -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    future = asyncio.get_running_loop().create_future()
    ref = system.spawn(Timed)
    await ref.ask(lambda context: context.pipe_to_self(hang()), block=False)
    await ref.ask(lambda context: context.pipe_to_self(future), block=False)
    await asyncio.sleep(0)
    await ref.stop(block=False)
    await cancelled.wait()
    assert not future.done()
    future.set_result("late")
    await asyncio.sleep(0)
    assert [(letter.message, letter.reason) for letter in system.dead_letters.recent()] == [("late", "stopped")]


async def test_a_system_that_has_closed_has_no_pipe_left() -> None:
    from callboard.actors.loop_dispatcher import LoopDispatcher

    ended = False

    async def slow_to_end() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            ended = True

    system = ActorSystem(loop_dispatcher=LoopDispatcher.attach())
    ref = system.spawn(Timed)
    await ref.ask(lambda context: context.pipe_to_self(slow_to_end()), block=False)
    await asyncio.sleep(0)
    await system.aclose()
    assert ended


# Proxies see the same actor


def test_async_methods_can_be_called_through_a_proxy(threaded_system: ActorSystem) -> None:
    class Proxied(EventActor):
        async def double(self, number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

    class PooledProxied(Proxied):
        dispatcher = "pool"

    assert threaded_system.spawn(Proxied).proxy().double(2).get() == 4
    assert threaded_system.spawn(PooledProxied).proxy().double(2).get() == 4


def test_the_context_knows_its_system(threaded_system: ActorSystem) -> None:
    for actor_class in (Caller, PoolCaller):
        assert threaded_system.spawn(actor_class).ask(lambda actor: actor.context.system) is threaded_system
