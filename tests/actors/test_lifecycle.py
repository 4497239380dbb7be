from __future__ import annotations

import asyncio
import threading
from typing import Any

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import ActorError
from callboard.actors.inspection import inspect
from callboard.actors.messages import SHUTDOWN, Kill, Terminated
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from tests.actors.players import PATIENCE_SECONDS, Caller, Child, Parent, PoolCaller, Recorder, Waiter, held
from tests.support.waiting import wait_until


class Watcher(Recorder):
    """Watches what it is told to."""

    def on_receive(self, message: Any) -> Any:
        match message:
            case ("watch", ref):
                self.context.watch(ref)
            case ("unwatch", ref):
                self.context.unwatch(ref)
            case _:
                return super().on_receive(message)
        return None


# Hooks and failures


async def test_hooks_may_be_async_and_keep_their_order(system: ActorSystem) -> None:
    journal: list[str] = []

    class Slow(EventActor):
        async def on_start(self) -> None:
            await asyncio.sleep(0)
            journal.append("started")

        async def on_receive(self, message: Any) -> None:
            await asyncio.sleep(0)
            journal.append(message)
            if message == "fail":
                raise ValueError(message)

        async def on_stop(self) -> None:
            await asyncio.sleep(0)
            journal.append("stopped")

        async def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
            await asyncio.sleep(0)
            journal.append(f"failed with {exception_value!r}")

    ref = system.spawn(Slow)
    ref.tell("one")
    await ref.stop(block=False)
    failing = system.spawn(Slow)
    failing.tell("fail")
    await failing.termination()
    assert journal == ["started", "one", "stopped", "started", "fail", "failed with ValueError('fail')"]


async def test_one_message_at_a_time_while_a_handler_awaits(system: ActorSystem) -> None:
    ref, go_on = system.spawn(Waiter), asyncio.Event()
    waiter = ref.actor_inbox.actor
    waits = ref.ask(go_on, block=False)
    ref.tell("next")
    await waiter.waiting.wait()
    await asyncio.sleep(0)
    assert waiter.received == []
    go_on.set()
    await waits
    await ref.ask("last", block=False)
    assert waiter.received == ["next", "last"]


async def test_a_failed_tell_ends_the_actor_and_a_failed_ask_does_not(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    with pytest.raises(ValueError, match="asked"):
        await ref.ask(ValueError("asked"), block=False)
    assert ref.is_alive()
    ref.tell(failure := ValueError("told"))
    assert await ref.termination() == Terminated(ref, "error", failure)


async def test_a_failed_ask_ends_an_actor_whose_class_says_so(system: ActorSystem) -> None:
    class Fragile(Recorder):
        reply_errors = ()

    ref = system.spawn(Fragile)
    with pytest.raises(ValueError, match="asked"):
        await ref.ask(failure := ValueError("asked"), block=False)
    assert await ref.termination() == Terminated(ref, "error", failure)


async def test_a_failed_start_ends_the_actor_without_on_failure(system: ActorSystem) -> None:
    class Stillborn(EventActor):
        def on_start(self) -> None:
            raise OSError("no")

        def on_failure(self, *_: Any) -> None:
            raise AssertionError("on_failure is for handlers")

    end = await system.spawn(Stillborn).termination()
    assert (end.reason, repr(end.exception)) == ("error", "OSError('no')")


async def test_a_failing_on_stop_is_told_to_the_watchers(system: ActorSystem) -> None:
    class Clumsy(EventActor):
        def on_stop(self) -> None:
            raise OSError("dropped it")

    ref = system.spawn(Clumsy)
    assert await ref.stop(block=False) is True
    end = await ref.termination()
    assert (end.reason, repr(end.exception)) == ("error", "OSError('dropped it')")


def test_a_constructor_that_forgets_super_is_named(threaded_system: ActorSystem) -> None:
    class Forgetful(EventActor):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"Forgetful is not ready to start: .* super\(\).__init__\(\)"):
        threaded_system.spawn(Forgetful)


def test_the_context_is_not_there_before_the_start() -> None:
    with pytest.raises(ActorError, match="use the context in on_start"):
        _ = Recorder().context


# Stop, shutdown, kill, suspend


async def test_stop_comes_after_what_waits_and_shutdown_before(system: ActorSystem) -> None:
    patient, hasty = system.spawn(Waiter), system.spawn(Waiter)
    actors = [ref.actor_inbox.actor for ref in (patient, hasty)]
    for ref in (patient, hasty):
        ref.tell("one")
        ref.tell("two")
    stopped = patient.stop(block=False)
    hasty.shutdown("enough")
    assert await stopped
    assert (await patient.termination()).reason == "normal"
    assert (await hasty.termination()).reason == "enough"
    assert [actor.received for actor in actors] == [["one", "two"], []]
    assert [actor.stopped for actor in actors] == [True, True]


async def test_shutdown_waits_for_a_running_async_handler(system: ActorSystem) -> None:
    ref, go_on = system.spawn(Waiter), asyncio.Event()
    waiter, answer = ref.actor_inbox.actor, ref.ask(go_on, block=False)
    await waiter.waiting.wait()
    ref.shutdown()
    await asyncio.sleep(0)
    assert ref.is_alive()
    go_on.set()
    assert await answer is go_on
    await ref.termination()
    assert waiter.stopped
    assert not waiter.cancelled


async def test_kill_cancels_a_running_async_handler_and_calls_no_hook(system: ActorSystem) -> None:
    ref = system.spawn(Waiter)
    waiter, answer = ref.actor_inbox.actor, ref.ask(asyncio.Event(), block=False)
    await waiter.waiting.wait()
    ref.kill()
    assert await ref.termination() == Terminated(ref, "killed")
    with pytest.raises(pykka.ActorDeadError):
        await answer
    assert waiter.cancelled
    assert not waiter.stopped


async def test_kill_ends_a_hook_that_does_not_return(system: ActorSystem) -> None:
    class Stubborn(EventActor):
        async def on_stop(self) -> None:
            stopping.set()
            await asyncio.Event().wait()

    stopping = asyncio.Event()
    ref = system.spawn(Stubborn)
    ref.shutdown()
    await stopping.wait()
    ref.kill()
    assert (await ref.termination()).reason == "killed"


async def test_kill_before_the_start_skips_the_start(system: ActorSystem) -> None:
    class Started(EventActor):
        def on_start(self) -> None:
            raise AssertionError("it was killed before")

    ref = system.spawn(Started)
    ref.kill()
    assert await ref.termination() == Terminated(ref, "killed")


def test_kill_abandons_a_pool_thread_whose_handler_does_not_return(threaded_system: ActorSystem) -> None:
    let_go, entered, pool = threading.Event(), threading.Event(), threaded_system.pool_dispatcher
    ref = threaded_system.spawn(PoolCaller)
    answer = ref.ask(held(let_go, entered), block=False)
    assert entered.wait(PATIENCE_SECONDS)
    ref.kill()
    assert ref.termination().get(timeout=PATIENCE_SECONDS) == Terminated(ref, "killed")
    with pytest.raises(pykka.ActorDeadError, match="was killed while handling the message"):
        answer.get(timeout=PATIENCE_SECONDS)
    assert pool.abandoned_threads == 1
    let_go.set()
    # The thread comes back to the pool: all four can be busy at once.
    everybody = threading.Barrier(5)
    answers = [
        threaded_system.spawn(PoolCaller).ask(lambda _: everybody.wait(PATIENCE_SECONDS), block=False) for _ in range(4)
    ]
    everybody.wait(PATIENCE_SECONDS)
    for answer in answers:
        answer.get()
    assert pool.abandoned_threads == 0


def test_a_kill_that_comes_just_before_a_handlers_task_cancels_it(threaded_system: ActorSystem) -> None:
    def handler(actor: PoolCaller) -> Any:
        # As kill() does, with its look for a task to cancel already over.
        actor._cell.killing = True
        actor._cell.post_system(Kill(), first=True)
        return asyncio.Event().wait()

    ref = threaded_system.spawn(PoolCaller)
    ref.tell(handler)
    assert ref.termination().get(timeout=PATIENCE_SECONDS) == Terminated(ref, "killed")


def test_a_thread_may_come_back_while_it_is_being_abandoned(threaded_system: ActorSystem) -> None:
    let_go, entered, pool = threading.Event(), threading.Event(), threaded_system.pool_dispatcher
    ref = threaded_system.spawn(PoolCaller)
    ref.ask(lambda _: None)
    cell = ref.actor_inbox
    gate = cell.gate
    assert gate is not None
    wait_until(lambda: cell not in pool._running)

    class LateGate:
        """Lets the handler return, and its thread go, between the kill's decision and what follows from it."""

        release = gate.release

        def acquire(self, blocking: bool) -> bool:
            taken = gate.acquire(blocking)
            if taken and threading.current_thread() is threading.main_thread():
                let_go.set()
                wait_until(lambda: cell not in pool._running)
            return taken

    cell.gate = LateGate()  # type: ignore[assignment]
    ref.tell(held(let_go, entered))
    assert entered.wait(PATIENCE_SECONDS)
    ref.kill()
    assert ref.termination().get(timeout=PATIENCE_SECONDS) == Terminated(ref, "killed")
    assert pool.abandoned_threads == 0


async def test_a_suspended_actor_handles_system_messages_only(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    ref.suspend()
    ref.suspend()
    answer = asyncio.ensure_future(ref.ask("hello", block=False))
    ref.resume()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not answer.done()
    ref.resume()
    assert await answer == "hello"
    ref.suspend()
    ref.shutdown()
    assert (await ref.termination()).reason == "shutdown"


# Children


async def test_children_stop_first_and_the_youngest_before_all(system: ActorSystem) -> None:
    journal: list[str] = []
    parent = system.spawn(Parent, journal, *((Child, (name, journal)) for name in ("a", "b", "c")))
    children = await parent.ask("children", block=False)
    assert await parent.stop(block=False)
    assert journal == ["c", "b", "a", "parent"]
    assert not any(child.is_alive() for child in children)


async def test_children_of_a_failed_parent_stop(system: ActorSystem) -> None:
    journal: list[str] = []
    parent = system.spawn(Parent, journal, (Child, ("a", journal)))
    parent.tell(ValueError("parent fails"))
    assert (await parent.termination()).reason == "error"
    assert journal == ["a", "parent failed"]


async def test_kill_reaches_all_descendants(system: ActorSystem) -> None:
    journal: list[str] = []
    parent = system.spawn(Parent, journal, (Parent, (journal, (Waiter, ()))))
    (child,) = await parent.ask("children", block=False)
    (grandchild,) = await child.ask("children", block=False)
    grandchild.tell(asyncio.Event())
    await grandchild.actor_inbox.actor.waiting.wait()
    ends = [ref.termination() for ref in (grandchild, child, parent)]
    parent.kill()
    assert [(await end).reason for end in ends] == ["killed"] * 3
    assert journal == []
    assert len(system.registry) == 0


async def test_ten_thousand_children_stop_with_their_parent(system: ActorSystem) -> None:
    journal: list[str] = []
    parent = system.spawn(Parent, journal, *((Child, (str(number), journal)) for number in range(10_000)))
    assert await parent.stop(block=False)
    assert journal == [str(number) for number in reversed(range(10_000))] + ["parent"]
    assert len(system.registry) == 0


async def test_a_stopping_parent_spawns_no_child(system: ActorSystem) -> None:
    class Late(EventActor):
        def on_stop(self) -> None:
            with pytest.raises(pykka.ActorDeadError, match="has stopped: no new Recorder below it"):
                self.context.spawn(Recorder, name="late")

    assert await system.spawn(Late).stop(block=False)
    assert system.registry.get("late") is None


# Death watch


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda ref: ref.stop(block=False), "normal"),
        (lambda ref: ref.shutdown(), "shutdown"),
        (lambda ref: ref.shutdown("for a reason"), "for a reason"),
        (lambda ref: ref.kill(), "killed"),
        (lambda ref: ref.tell(ValueError()), "error"),
    ],
)
async def test_a_watcher_gets_terminated_once_with_the_reason(system: ActorSystem, end: Any, reason: str) -> None:
    watched, watcher = system.spawn(Recorder), system.spawn(Watcher)
    for _ in range(2):
        await watcher.ask(("watch", watched), block=False)
    end(watched)
    await watched.termination()
    received = await watcher.ask("received", block=False)
    assert [(message.ref, message.reason) for message in received] == [(watched, reason)]


async def test_terminated_overtakes_waiting_messages(system: ActorSystem) -> None:
    watched, watcher, go_on = system.spawn(Recorder), system.spawn(AsyncWatcher), asyncio.Event()
    await watcher.ask(watched, block=False)
    watcher.tell(go_on)
    watcher.tell("waits")
    await watched.stop(block=False)
    go_on.set()
    received = await watcher.ask("received", block=False)
    assert [type(message) for message in received] == [asyncio.Event, Terminated, str]


class AsyncWatcher(EventActor):
    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []

    async def on_receive(self, message: Any) -> Any:
        if message == "received":
            return list(self.received)
        if isinstance(message, EventRef):
            self.context.watch(message)
            return None
        self.received.append(message)
        if isinstance(message, asyncio.Event):
            await message.wait()
        return None


async def test_watching_the_dead_fires_at_once(system: ActorSystem) -> None:
    watched, watcher = system.spawn(Recorder), system.spawn(Watcher)
    watched.kill()
    await watched.termination()
    watcher.tell(("watch", watched))
    assert await watcher.ask("received", block=False) == [Terminated(watched, "killed")]


async def test_nothing_comes_after_unwatch_not_even_what_is_on_its_way(system: ActorSystem) -> None:
    class Unwatcher(Recorder):
        async def on_receive(self, message: Any) -> Any:
            if isinstance(message, EventRef):
                self.context.watch(message)
                message.kill()
                await message.termination()  # Terminated lies in the system queue now
                self.context.unwatch(message)
                return None
            return super().on_receive(message)

    watcher = system.spawn(Unwatcher)
    await watcher.ask(system.spawn(Recorder), block=False)
    assert await watcher.ask("received", block=False) == []


async def test_an_async_handler_may_watch_and_fail_on_terminated(system: ActorSystem) -> None:
    class Pact(EventActor):
        def on_receive(self, message: Any) -> None:
            if isinstance(message, Terminated):
                raise LookupError("it was everything to me")
            self.context.watch(message)

    watched, watcher = system.spawn(Recorder), system.spawn(Pact)
    watcher.tell(watched)
    watched.kill()
    assert (await watcher.termination()).reason == "error"


async def test_actors_on_different_dispatchers_watch_each_other(system: ActorSystem) -> None:
    watched, watcher = system.spawn(PoolCaller), system.spawn(Watcher)
    await watcher.ask(("watch", watched), block=False)
    await watched.stop(block=False)
    await watched.termination()
    assert await watcher.ask("received", block=False) == [Terminated(watched, "normal")]


async def test_an_actor_that_stops_itself_answers_first(system: ActorSystem) -> None:
    ref = system.spawn(Caller)
    answer = ref.ask(lambda actor: actor.stop(), block=False)
    assert await answer is None
    assert (await ref.termination()).reason == "normal"


async def test_an_actor_that_ends_after_its_message_handles_no_more(system: ActorSystem) -> None:
    class Brief(EventActor):
        def on_receive(self, message: object) -> None:
            seen.append(message)
            if message == "last":
                self.actor_inbox.end_after_message()

        async def on_stop(self) -> None:
            await asyncio.sleep(0)
            seen.append("stopped")

    seen: list[object] = []
    ref = system.spawn(Brief)
    ended = ref.termination()
    for message in ("first", "last", "too late"):
        ref.tell(message)
    assert (await ended).reason == SHUTDOWN
    assert seen == ["first", "last", "stopped"]
    assert system.dead_letters.counts()["unhandled_at_stop"] == 1


async def test_a_parent_waits_for_children_that_end_after_their_message(system: ActorSystem) -> None:
    class Child(EventActor):
        def on_receive(self, message: object) -> None:
            self.actor_inbox.end_after_message()

    class Parent(EventActor):
        def on_start(self) -> None:
            self.children = [self.context.spawn(Child) for _ in range(3)]
            self.children[0].tell("end")

    ref = system.spawn(Parent)
    ended = ref.termination()
    ref.shutdown()
    assert (await ended).reason == SHUTDOWN
    assert len(system.registry) == 0


async def test_an_actor_without_on_start_runs_from_its_start(system: ActorSystem) -> None:
    class Plain(EventActor):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("from the constructor")

        def on_receive(self, message: object) -> None:
            seen.append(message)

    seen: list[object] = []
    ref = system.spawn(Plain)
    assert inspect(ref).state == "running"
    assert seen == []
    ref.tell("after it")
    await ref.stop(block=False)
    assert seen == ["from the constructor", "after it"]


# What must happen at every end


class Holder(Recorder):
    """Holds something, and gives it back once."""

    def __init__(self, given_back: list[str], *, fails: bool = False) -> None:
        super().__init__()
        self.given_back = given_back
        self.fails = fails

    def on_gone(self) -> None:
        assert not self.actor_ref.is_alive()
        self.given_back.append("it")
        if self.fails:
            raise OSError("cannot give it back")


@pytest.mark.parametrize(
    "end",
    [
        lambda ref: ref.stop(block=False),
        lambda ref: ref.shutdown(),
        lambda ref: ref.kill(),
        lambda ref: ref.tell(ValueError("a failure")),
    ],
    ids=["stop", "shutdown", "kill", "failure"],
)
async def test_on_gone_is_called_once_at_every_end(system: ActorSystem, end: Any) -> None:
    class Failing(Holder):
        def on_receive(self, message: Any) -> Any:
            if isinstance(message, Exception):
                raise message
            return super().on_receive(message)

    given_back: list[str] = []
    ref = system.spawn(Failing, given_back)
    ended = ref.termination()
    end(ref)
    await ended
    assert given_back == ["it"]


async def test_on_gone_is_called_in_children_of_a_killed_parent(system: ActorSystem) -> None:
    class Holders(EventActor):
        def on_start(self) -> None:
            for _ in range(3):
                self.context.spawn(Holder, given_back)

    given_back: list[str] = []
    ref = system.spawn(Holders)
    ended = ref.termination()
    await asyncio.sleep(0)
    ref.kill()
    await ended
    assert given_back == ["it"] * 3


async def test_an_on_gone_that_raises_is_logged_and_the_end_goes_on(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    ref = system.spawn(Holder, [], fails=True)
    ended = ref.termination()
    ref.shutdown()
    assert (await ended).reason == SHUTDOWN
    assert "cannot give it back" in caplog.text


async def test_who_begins_to_watch_during_on_gone_is_told_after_it(system: ActorSystem) -> None:
    class Slow(EventActor):
        dispatcher = "pool"

        def on_gone(self) -> None:
            begun.set()
            assert go_on.wait(PATIENCE_SECONDS)

    begun, go_on = threading.Event(), threading.Event()
    ref = system.spawn(Slow)
    ref.shutdown()
    assert await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    ended = ref.termination()
    assert not ended.is_done
    go_on.set()
    assert (await ended).reason == SHUTDOWN
