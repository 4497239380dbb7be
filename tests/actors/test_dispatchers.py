from __future__ import annotations

import asyncio
import contextvars
import threading
from itertools import pairwise
from typing import Any

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import ConfigurationError, WouldDeadlock
from callboard.actors.future import EventFuture
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.messages import ERROR, KILLED, SHUTDOWN, Terminated
from callboard.actors.pool_dispatcher import PoolDispatcher
from callboard.actors.system import ActorSystem
from tests.actors.players import PATIENCE_SECONDS, Caller, PoolCaller, PoolRecorder, Recorder, held

# The loop


async def test_the_loops_other_work_gets_its_turn_under_a_flood(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    for number in range(5000):
        ref.tell(number)
    waiting_at_each_turn = []
    while ref.mailbox_depth:
        waiting_at_each_turn.append(ref.mailbox_depth)
        await asyncio.sleep(0)
    slices = [before - after for before, after in pairwise(waiting_at_each_turn)]
    assert max(slices) <= 256 + 32


async def test_one_flooded_actor_does_not_hold_up_the_next(system: ActorSystem) -> None:
    flooded, other = system.spawn(Recorder), system.spawn(Recorder)
    for number in range(5000):
        flooded.tell(number)
    await other.ask("hello", block=False)
    assert flooded.mailbox_depth > 4000


async def test_wake_ups_are_coalesced(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [system.spawn(Recorder) for _ in range(10)]
    await refs[-1].ask("started", block=False)
    await asyncio.sleep(0)
    loop, wake_ups = asyncio.get_running_loop(), []
    call_soon = loop.call_soon
    monkeypatch.setattr(loop, "call_soon", lambda *args, **kw: (wake_ups.append(args[0]), call_soon(*args, **kw))[1])
    for ref in refs:
        for number in range(10):
            ref.tell(number)
    assert len(wake_ups) == 1


async def test_an_idle_actor_handles_what_is_delivered_at_once(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    await ref.ask("started", block=False)
    await asyncio.sleep(0)
    ref.deliver("now")
    assert ref.actor_inbox.actor.received[-1] == "now"


async def test_what_is_delivered_comes_after_what_waits(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    await ref.ask("started", block=False)
    await asyncio.sleep(0)
    ref.tell("earlier")
    ref.deliver("later")
    assert ref.mailbox_depth == 2
    received = await ref.ask("received", block=False)
    assert received[-2:] == ["earlier", "later"]


async def test_what_another_thread_or_another_actor_delivers_waits_for_its_turn(system: ActorSystem) -> None:
    class Courier(EventActor):
        def on_receive(self, message: Any) -> int:
            ref.deliver(message)
            return ref.mailbox_depth

    ref, courier = system.spawn(Recorder), system.spawn(Courier)
    await ref.ask("started", block=False)
    assert await courier.ask("from an actor", block=False) == 1
    await asyncio.to_thread(ref.deliver, "from a thread")
    received = await ref.ask("received", block=False)
    assert received[-2:] == ["from an actor", "from a thread"]
    await asyncio.get_running_loop().shutdown_default_executor()


async def has_run(system: ActorSystem) -> None:
    """Wait until the dispatcher has had its turn, and knows its thread."""
    await system.spawn(Recorder).ask("started", block=False)
    await asyncio.sleep(0)


class Brief(EventActor):
    """Ends after its first message."""

    def on_receive(self, message: object) -> None:
        self.actor_inbox.end_after_message()


class BriefParent(Brief):
    def on_start(self) -> None:
        self.context.spawn(Recorder)


class BriefFarewell(Brief):
    async def on_stop(self) -> None:
        await asyncio.sleep(0)


class BriefCrash(BriefParent):
    expected_failures = (ZeroDivisionError,)

    def on_receive(self, message: object) -> None:
        super().on_receive(message)
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("actor_class", "reason", "at_once"),
    [
        (Brief, SHUTDOWN, True),
        (BriefParent, SHUTDOWN, False),
        (BriefFarewell, SHUTDOWN, False),
        (BriefCrash, ERROR, False),
    ],
)
async def test_an_actor_ends_after_its_last_message_where_that_is_delivered(
    system: ActorSystem, actor_class: type[Brief], reason: str, at_once: bool
) -> None:
    ref = system.spawn(actor_class)
    await has_run(system)
    ends: list[Terminated] = []
    ref.actor_inbox.watch("test", ends.append, ref)
    ref.deliver("last")
    assert not ref.is_alive()
    assert len(ends) == at_once
    assert (await ref.termination()).reason == reason
    assert [end.reason for end in ends] == [reason]


async def test_a_kill_overtakes_the_end_of_a_delivered_last_message(system: ActorSystem) -> None:
    class Doomed(Brief):
        def on_receive(self, message: object) -> None:
            super().on_receive(message)
            self.actor_ref.kill()

    ref = system.spawn(Doomed)
    await has_run(system)
    ended = ref.termination()
    ref.deliver("last")
    assert (await ended).reason == KILLED


async def test_what_is_delivered_to_a_stopped_actor_is_a_dead_letter(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    await ref.stop(block=False)
    ref.deliver("too late")
    assert system.dead_letters.counts()["stopped"] == 1


async def test_tells_of_other_threads_arrive_in_their_order(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)

    def tell(letter: str) -> None:
        for number in range(1000):
            ref.tell((letter, number))

    await asyncio.gather(*(asyncio.to_thread(tell, letter) for letter in "abc"))
    received = await ref.ask("received", block=False)
    for letter in "abc":
        assert [number for sender, number in received if sender == letter] == list(range(1000))
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_asks_that_are_answered_at_once_still_let_the_loop_go_on(system: ActorSystem) -> None:
    ref, turns = system.spawn(Recorder), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    for number in range(100):
        await ref.ask(number, block=False)
    counting.cancel()
    assert turns >= 99


async def test_context_variables_of_senders_and_actors_do_not_mix(system: ActorSystem) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def handler(_: Any) -> str:
        seen = variable.get()
        variable.set("by the actor")
        return seen

    variable.set("by the sender")
    ref = system.spawn(Caller)
    assert [await ref.ask(handler, block=False) for _ in range(2)] == ["unset", "unset"]
    assert variable.get() == "by the sender"


def test_attach_needs_a_loop() -> None:
    with pytest.raises(RuntimeError):
        LoopDispatcher.attach()


def test_actors_whose_loop_was_closed_under_them_are_as_good_as_stopped() -> None:
    loop = asyncio.new_event_loop()
    system = ActorSystem(loop_dispatcher=LoopDispatcher.attach(loop))
    ref, other = system.spawn(Recorder), system.spawn(Recorder)
    loop.run_until_complete(_ask(ref, "hello"))
    loop.close()
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("anybody there?")
    other.send("anybody there?")
    other.kill()
    assert [letter.reason for letter in system.dead_letters.recent()] == ["unhandled_at_stop"]
    with pytest.raises(pykka.ActorDeadError):
        other.tell("anybody there?")


async def _ask(ref: Any, message: Any) -> Any:
    return await ref.ask(message, block=False)


def test_a_loop_of_its_own_ends_with_its_tasks() -> None:
    dispatcher = LoopDispatcher()
    started, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    asyncio.run_coroutine_threadsafe(hang(), dispatcher.loop)
    assert started.wait(PATIENCE_SECONDS)
    dispatcher.close()
    dispatcher.close()
    assert cancelled.is_set()
    assert dispatcher.loop.is_closed()


# Waits that could never end


@pytest.mark.parametrize(
    "wait",
    [
        lambda ref: ref.ask("hello"),
        lambda ref: ref.stop(),
        lambda ref: ref.ask("hello", block=False).get(),
        lambda ref: ref.proxy().received.get(),
        lambda ref: ref.termination().get(),
    ],
)
async def test_a_blocking_wait_on_the_loops_thread_raises_at_once(system: ActorSystem, wait: Any) -> None:
    for other in (Recorder, PoolRecorder):
        ref = system.spawn(other)
        with pytest.raises(WouldDeadlock, match="would block the event loop that runs the actors"):
            wait(ref)


async def test_a_value_that_is_there_can_be_got_on_the_loops_thread(system: ActorSystem) -> None:
    answer = system.spawn(Recorder).ask("hello", block=False)
    await answer
    assert answer.get() == "hello"


async def test_a_handler_that_blocks_its_own_loop_raises(system: ActorSystem) -> None:
    other = system.spawn(Recorder)
    with pytest.raises(WouldDeadlock):
        await system.spawn(Caller).ask(lambda _: other.ask("hello"), block=False)


async def test_an_async_handler_that_awaits_its_own_actor_raises(system: ActorSystem) -> None:
    async def ask_oneself(actor: Caller) -> Any:
        return await actor.actor_ref.ask("hello", block=False)

    with pytest.raises(WouldDeadlock, match=r"Caller \(.*\) awaits its own answer"):
        await system.spawn(Caller).ask(ask_oneself, block=False)


async def test_closing_on_the_loop_that_runs_the_actors_raises(system: ActorSystem) -> None:
    with pytest.raises(WouldDeadlock, match="closing actor system 'test'"):
        system.close()


def test_a_self_ask_on_the_pool_raises_and_names_the_cycle(threaded_system: ActorSystem) -> None:
    ref = threaded_system.spawn(PoolCaller)
    with pytest.raises(WouldDeadlock, match=rf"{ref.actor_urn}\) -> PoolCaller \({ref.actor_urn}\)"):
        ref.ask(lambda actor: actor.actor_ref.ask("hello"))


def test_a_blocking_stop_of_oneself_on_the_pool_raises(threaded_system: ActorSystem) -> None:
    ref = threaded_system.spawn(PoolCaller)
    with pytest.raises(WouldDeadlock):
        ref.ask(lambda actor: actor.actor_ref.stop())


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_cycle_of_waits_on_the_pool_raises_in_the_one_that_closes_it(
    threaded_system: ActorSystem, length: int
) -> None:
    refs = [threaded_system.spawn(PoolCaller) for _ in range(length)]

    def ask_from(index: int) -> Any:
        return lambda _: refs[(index + 1) % length].ask(ask_from(index + 1))

    with pytest.raises(WouldDeadlock, match=" -> ".join(["PoolCaller .*"] * (length + 1))):
        refs[0].ask(ask_from(0))


def test_a_wait_that_is_over_closes_no_cycle(threaded_system: ActorSystem) -> None:
    """Its thread may not have woken up yet."""
    one, other = threaded_system.spawn(PoolCaller), threaded_system.spawn(PoolCaller)
    over: EventFuture[None] = EventFuture(other.actor_inbox)
    over.set(None)
    one.actor_inbox.waits_for = over
    assert other.ask(lambda _: one.ask(lambda _: "answer")) == "answer"


def test_a_chain_of_waits_on_the_pool_is_fine(threaded_system: ActorSystem) -> None:
    refs = [threaded_system.spawn(PoolCaller) for _ in range(8)]

    def ask_from(index: int) -> Any:
        return lambda _: "end" if index == 7 else refs[index + 1].ask(ask_from(index + 1))

    assert refs[0].ask(ask_from(0)) == "end"


# The pool


def test_a_pool_has_as_many_threads_as_it_needs_and_no_more(threaded_system: ActorSystem) -> None:
    pool = threaded_system.pool_dispatcher
    assert pool.threads == 0
    together = threading.Barrier(5)
    answers = [
        threaded_system.spawn(PoolCaller).ask(lambda _: together.wait(PATIENCE_SECONDS), block=False) for _ in range(4)
    ]
    together.wait(PATIENCE_SECONDS)
    for answer in answers:
        answer.get()
    for _ in range(20):
        threaded_system.spawn(PoolRecorder).ask("hello")
    assert pool.threads == 4


def test_waiting_actors_do_not_hold_up_the_rest(threaded_system: ActorSystem) -> None:
    """All four threads wait for actors that need a thread: stand-ins run them."""
    answerers = [threaded_system.spawn(PoolCaller) for _ in range(4)]
    together = threading.Barrier(4)

    def meet_and_ask(answerer: Any) -> Any:
        def handler(_: Any) -> Any:
            together.wait(PATIENCE_SECONDS)
            return answerer.ask(lambda _: "answer")

        return handler

    answers = [threaded_system.spawn(PoolCaller).ask(meet_and_ask(ref), block=False) for ref in answerers]
    assert [answer.get() for answer in answers] == ["answer"] * 4


def test_actors_of_a_pool_handle_one_message_at_a_time(threaded_system: ActorSystem) -> None:
    busy = threading.Lock()
    overlaps: list[Any] = []

    def handler(_: Any) -> None:
        if not busy.acquire(blocking=False):
            overlaps.append("overlap")
            return
        threading.Event().wait(0.0001)
        busy.release()

    ref = threaded_system.spawn(PoolCaller)
    senders = [threading.Thread(target=lambda: [ref.tell(handler) for _ in range(50)]) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    ref.ask(lambda _: None)
    assert overlaps == []


def test_a_closed_pool_has_no_threads() -> None:
    pool = PoolDispatcher(max_threads=3)
    system = ActorSystem(pool_dispatcher=pool)
    refs = [system.spawn(PoolRecorder) for _ in range(10)]
    for ref in refs:
        ref.ask("hello")
    system.close()
    assert pool.threads > 0, "a pool that was given to a system is its giver's to close"
    pool.close()
    pool.close()
    assert pool.threads == 0


def test_close_gives_up_on_a_handler_that_does_not_return() -> None:
    system = ActorSystem()
    let_go, entered = threading.Event(), threading.Event()
    system.spawn(PoolCaller).tell(held(let_go, entered))
    assert entered.wait(PATIENCE_SECONDS)
    system.close(grace_seconds=0.05)
    assert len(system.registry) == 0
    let_go.set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_threads": 0}, "max_threads 0: expected 1 or more"),
        ({"max_stand_ins": -1}, "max_stand_ins -1: expected 0 or more"),
        ({"throughput": 0}, "throughput 0: expected 1 or more"),
    ],
)
def test_a_wrong_bound_of_a_pool_is_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PoolDispatcher(**arguments)
