"""What can be seen of an actor from outside, without a message to it."""

import asyncio
import threading

from callboard.actors.actor import EventActor
from callboard.actors.inspection import inspect, top_level
from callboard.actors.system import ActorSystem
from tests.actors.players import Parent, PoolCaller, Recorder, Waiter, held
from tests.support.waiting import settle, wait_until


async def test_an_idle_actor(system: ActorSystem) -> None:
    ref = system.spawn(Recorder, name="idle")
    assert await ref.ask("hello", block=False) == "hello"
    seen = inspect(ref)
    assert (seen.name, seen.actor_class, seen.label, seen.state) == ("idle", Recorder, None, "running")
    assert (seen.mailbox_depth, seen.handling, seen.handling_seconds, seen.children) == (0, None, None, ())


async def test_a_handler_that_awaits_is_seen_with_what_waits_behind_it(timed_system, timer_clock) -> None:
    ref = timed_system.spawn(Waiter)
    go_on = asyncio.Event()
    ref.tell(go_on)
    ref.tell("next")
    await settle()
    timer_clock.advance(3)
    seen = inspect(ref)
    assert (seen.handling, seen.handling_seconds, seen.mailbox_depth) == ("Event", 3, 1)
    go_on.set()
    await settle()
    assert inspect(ref)[4:7] == (0, None, None)


async def test_states(system: ActorSystem) -> None:
    class Slow(EventActor):
        async def on_start(self) -> None:  # type: ignore[override]
            await go_on.wait()

        async def on_stop(self) -> None:  # type: ignore[override]
            await go_on.wait()

    go_on = asyncio.Event()
    ref = system.spawn(Slow)
    await settle()
    assert (inspect(ref).state, inspect(ref).handling) == ("starting", "on_start")
    go_on.set()
    await settle()
    ref.suspend()
    await settle()
    assert (inspect(ref).state, inspect(ref).handling) == ("suspended", None)
    go_on.clear()
    ref.shutdown()
    await settle()
    assert (inspect(ref).state, inspect(ref).handling) == ("ending", "on_stop")
    go_on.set()
    await ref.termination()
    assert inspect(ref).state == "ended"


async def test_families(system: ActorSystem) -> None:
    parent = system.spawn(Parent, [], (Recorder, ()), (Waiter, ()))
    children = await parent.ask("children", block=False)
    other = system.spawn(Recorder)
    assert inspect(parent).children == tuple(children)
    assert top_level(system) == [parent, other]


async def test_an_actor_says_what_it_is_there_for(system: ActorSystem) -> None:
    class Hamlet(EventActor):
        @property
        def label(self) -> str:
            return "a prince"

    assert inspect(system.spawn(Hamlet)).label == "a prince"


def test_a_handler_on_a_thread_is_seen(threaded_system: ActorSystem) -> None:
    ref, go_on, entered = threaded_system.spawn(PoolCaller), threading.Event(), threading.Event()
    ref.tell(held(go_on, entered))
    assert entered.wait(10)
    assert inspect(ref).handling == "function"
    go_on.set()
    wait_until(lambda: inspect(ref).handling is None)
