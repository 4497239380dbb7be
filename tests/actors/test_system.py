from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from typing import Any

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.dead_letters import DeadLetters
from callboard.actors.errors import ActorError, ConfigurationError
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.statistics import HANDLER_SECONDS_BUCKETS
from callboard.actors.system import ActorSystem
from tests.actors.players import Child, Parent, PoolRecorder, Recorder, Waiter
from tests.supervision.theatre import TimerClock


class Special(Recorder):
    pass


# Spawning and the registry


async def test_actors_are_found_by_urn_class_and_name(system: ActorSystem) -> None:
    plain, special = system.spawn(Recorder), system.spawn(Special, name="the special one")
    registry = system.registry
    assert registry.get_by_urn(plain.actor_urn) is plain
    assert registry.get("the special one") is special
    assert special.name == "the special one"
    assert registry.get_by_class(Recorder) == [plain, special]
    assert registry.get_by_class(Special) == [special]
    assert registry.get_by_class_name("Special") == [special]
    assert registry.get_all() == [plain, special]
    assert len(registry) == 2


async def test_a_stopped_actor_is_found_no_more_and_its_name_is_free(system: ActorSystem) -> None:
    first = system.spawn(Recorder, name="singer")
    urn = first.actor_urn
    await first.stop(block=False)
    assert system.registry.get("singer") is None
    assert system.registry.get_by_urn(urn) is None
    assert system.registry.get_by_class(Recorder) == []
    assert system.spawn(Recorder, name="singer").is_alive()


async def test_a_taken_name_is_refused_and_nothing_is_started(system: ActorSystem) -> None:
    first = system.spawn(Recorder, name="singer")
    with pytest.raises(ActorError, match="the name 'singer' is taken by Recorder"):
        system.spawn(Special, name="singer")
    assert system.registry.get_all() == [first]


async def test_an_unknown_dispatcher_is_named(system: ActorSystem) -> None:
    class Lost(EventActor):
        dispatcher = "somewhere"  # type: ignore[assignment]

    with pytest.raises(ConfigurationError, match=r"Lost\.dispatcher is 'somewhere': expected 'loop' or 'pool'"):
        system.spawn(Lost)


@pytest.mark.parametrize("timeout", [0, -1])
def test_an_ask_timeout_must_be_positive(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="ask_timeout_seconds"):
        ActorSystem(ask_timeout_seconds=timeout)


# Statistics and dead letters


async def test_the_snapshot_counts_by_class(system: ActorSystem) -> None:
    finished, failed, killed, busy = (system.spawn(Recorder) for _ in range(4))
    finished.tell("stop")
    failed.tell(ValueError())
    killed.kill()
    with pytest.raises(ValueError, match="asked"):
        await busy.ask(ValueError("asked"), block=False)
    await asyncio.gather(*(ref.termination() for ref in (finished, failed, killed)))
    busy.suspend()
    await asyncio.sleep(0)
    busy.tell(1)
    busy.tell(2)
    recorders = system.statistics.snapshot().classes["Recorder"]
    assert (recorders.started, recorders.live, recorders.crashed, recorders.failed_asks) == (4, 1, 1, 1)
    assert recorders.stopped == {"normal": 1, "shutdown": 0, "error": 1, "killed": 1}
    assert recorders.handled == 4  # two messages, the stop that one of them led to, and the failed ask
    assert (recorders.mailbox_depth, recorders.mailbox_depth_max) == (2, 2)


@pytest.mark.parametrize("waits", [False, True])
async def test_the_time_that_handlers_take_is_counted(
    timed_system: ActorSystem, timer_clock: TimerClock, waits: bool
) -> None:
    class Slow(EventActor):
        def on_receive(self, seconds: float) -> Any:
            return self.later(seconds) if waits else timer_clock.advance(seconds)

        async def later(self, seconds: float) -> None:
            await asyncio.sleep(0)
            timer_clock.advance(seconds)

    ref = timed_system.spawn(Slow)
    for seconds in (0, 0, 0.25, 2, 100):
        await ref.ask(seconds, block=False)
    await asyncio.sleep(0)
    slow = timed_system.statistics.snapshot().classes["Slow"]
    assert slow.handler_seconds == 102.25
    buckets = dict(zip((*HANDLER_SECONDS_BUCKETS, "longer"), slow.handler_buckets, strict=True))
    assert {bound: count for bound, count in buckets.items() if count} == {0.001: 2, 0.5: 1, 5.0: 1, "longer": 1}
    assert slow.handled == 5


async def test_classes_of_one_name_are_counted_together(system: ActorSystem) -> None:
    for _ in range(2):
        system.spawn(type("Twin", (Recorder,), {})).kill()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    twins = system.statistics.snapshot().classes["Twin"]
    assert (twins.started, twins.stopped["killed"], twins.live) == (2, 2, 0)


def test_dead_letters_keep_the_last_and_count_all() -> None:
    letters = DeadLetters(capacity=3)
    for number in range(10):
        letters.record("nobody", number, "stopped")
    letters.record("nobody", 10, "mailbox_full")
    assert [letter.message for letter in letters.recent()] == [8, 9, 10]
    assert letters.counts() == {"stopped": 10, "mailbox_full": 1}
    assert len(letters) == 11


# The end


async def test_aclose_stops_the_youngest_first_and_children_before_parents() -> None:
    system, journal = ActorSystem(loop_dispatcher=LoopDispatcher.attach()), []
    system.spawn(Child, "eldest", journal)
    system.spawn(Parent, journal, (Child, ("child", journal)))
    system.spawn(Child, "youngest", journal)
    await system.aclose()
    assert journal == ["youngest", "child", "parent", "eldest"]
    await system.aclose()


async def test_aclose_waits_for_running_handlers_then_kills() -> None:
    system = ActorSystem(loop_dispatcher=LoopDispatcher.attach())
    patient, hanging = system.spawn(Waiter), system.spawn(Waiter)
    waiters = [ref.actor_inbox.actor for ref in (patient, hanging)]
    patient.tell(asyncio.Event())
    hanging.tell(asyncio.Event())
    await asyncio.gather(*(waiter.waiting.wait() for waiter in waiters))
    await system.aclose(grace_seconds=0.01)
    assert [waiter.cancelled for waiter in waiters] == [True, True]
    assert len(system.registry) == 0


async def test_a_closed_system_spawns_nothing() -> None:
    system = ActorSystem("closed", loop_dispatcher=LoopDispatcher.attach())
    await system.aclose()
    with pytest.raises(pykka.ActorDeadError, match="actor system 'closed' has stopped"):
        system.spawn(Recorder)
    assert len(system.registry) == 0


async def test_an_actor_that_cannot_be_ended_is_named() -> None:
    class Deaf(EventActor):
        async def on_receive(self, message: Any) -> None:
            while True:
                try:
                    await message.wait()
                except asyncio.CancelledError:
                    if message.is_set():
                        raise
                else:
                    return

    system, let_go = ActorSystem("test", loop_dispatcher=LoopDispatcher.attach()), asyncio.Event()
    ref = system.spawn(Deaf)
    ref.tell(let_go)
    await asyncio.sleep(0.001)
    with pytest.raises(ActorError, match=r"actor system 'test' could not end Deaf \("):
        await system.aclose(grace_seconds=0.01)
    let_go.set()
    assert (await ref.termination()).reason == "killed"


def test_close_leaves_no_thread() -> None:
    before = threading.active_count()
    system = ActorSystem()
    system.spawn(Recorder).ask("hello")
    system.spawn(PoolRecorder).ask("hello")
    assert threading.active_count() > before
    system.close()
    assert threading.active_count() == before


# Size


async def test_an_idle_actor_costs_less_than_a_kilobyte(system: ActorSystem) -> None:
    count = 2000
    await system.spawn(Recorder).ask("warm", block=False)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    refs = [system.spawn(EventActor) for _ in range(count)]
    await asyncio.sleep(0)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / count < 1024
    assert len(refs) == count
