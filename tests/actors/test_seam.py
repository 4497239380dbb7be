"""The constraints and inherited defects of the Pykka seam (reference §2), one test each."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import subprocess
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.future import EventFuture
from callboard.actors.system import ActorSystem, default_system
from tests.actors.players import PATIENCE_SECONDS, Caller, PoolCaller, PoolRecorder, Recorder, held


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# What an event-driven actor must do to be a Pykka actor (§2.6)


def test_event_actor_is_a_pykka_actor(threaded_system: ActorSystem) -> None:
    ref = threaded_system.spawn(Recorder)
    assert issubclass(EventActor, pykka.Actor)
    assert isinstance(ref, pykka.ActorRef)
    assert isinstance(ref.ask(1, block=False), pykka.Future)
    assert isinstance(ref.proxy(), pykka.ActorProxy)


async def test_an_idle_actor_lives_while_only_its_system_knows_it(system: ActorSystem) -> None:
    actor = weakref.ref((ref := system.spawn(Recorder)).actor_inbox.actor)
    await ref.ask("hello", block=False)
    del ref
    gc.collect()
    assert actor() is not None


async def test_a_stopped_actor_is_freed_without_the_garbage_collector(
    system: ActorSystem, no_garbage_collection: None
) -> None:
    ref = system.spawn(Recorder)
    actor, cell = weakref.ref(ref.actor_inbox.actor), weakref.ref(ref)
    ref.tell("hello")
    await ref.stop(block=False)
    assert actor() is None, "the dispatcher or the mailbox still holds the actor"
    del ref
    assert cell() is None, "the reference and its mailbox hold each other"


async def test_a_handler_never_runs_inside_its_sender(system: ActorSystem) -> None:
    ref = system.spawn(Recorder)
    await ref.ask("warm", block=False)
    ref.tell("hello")
    assert ref.mailbox_depth == 1
    assert await ref.ask("received", block=False) == ["warm", "hello"]


def test_ask_with_timeout_zero_times_out_while_the_handler_works(threaded_system: ActorSystem) -> None:
    let_go, entered = threading.Event(), threading.Event()
    ref = threaded_system.spawn(Caller)
    ref.tell(held(let_go, entered))
    with pytest.raises(pykka.Timeout):
        ref.ask(lambda _: None, timeout=0)
    let_go.set()


async def test_a_future_returned_by_a_handler_reaches_the_caller_as_it_is(system: ActorSystem) -> None:
    future: EventFuture[int] = EventFuture()
    answer = await system.spawn(Caller).ask(lambda _: future, block=False)
    assert answer is future


def test_actors_of_a_system_stay_out_of_pykkas_registry(threaded_system: ActorSystem) -> None:
    ref = threaded_system.spawn(Recorder)
    assert ref not in pykka.ActorRegistry.get_all()
    assert ref in threaded_system.registry.get_all()


@pytest.fixture
def closed_default_system() -> Iterator[None]:
    yield
    default_system().close()


def test_start_registers_with_pykka_until_the_end(closed_default_system: None) -> None:
    ref = Recorder.start()
    assert ref in pykka.ActorRegistry.get_all()
    ref.stop()
    assert ref not in pykka.ActorRegistry.get_all()


async def test_a_life_without_failures_logs_nothing_but_its_end(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ref = system.spawn(Recorder)
    await ref.ask("hello", block=False)
    await ref.stop(block=False)
    assert [record.getMessage() for record in caplog.records] == [f"Stopped {ref}"]


@pytest.mark.parametrize("actor_class", [Recorder, PoolRecorder])
def test_a_base_exception_stops_all_actors_without_a_deadlock(
    threaded_system: ActorSystem, actor_class: type[Recorder]
) -> None:
    refs = [threaded_system.spawn(actor_class) for _ in range(5)]
    ends = [ref.termination() for ref in refs]
    refs[2].tell(SystemExit("enough"))
    reasons = [end.get(timeout=PATIENCE_SECONDS).reason for end in ends]
    assert reasons == ["shutdown", "shutdown", "error", "shutdown", "shutdown"]


async def test_a_leaked_cancellation_ends_one_actor_and_not_the_world(system: ActorSystem) -> None:
    bystander, ref = system.spawn(Recorder), system.spawn(Recorder)
    ref.tell(asyncio.CancelledError())
    assert (await ref.termination()).reason == "error"
    assert await bystander.ask("alive", block=False) == "alive"


def test_an_actor_is_not_alive_in_its_own_last_hooks(threaded_system: ActorSystem) -> None:
    seen: list[bool] = []

    class Last(EventActor):
        def on_receive(self, message: Any) -> None:
            raise ValueError

        def on_stop(self) -> None:
            seen.append(self.actor_ref.is_alive())

        def on_failure(self, *_: Any) -> None:
            seen.append(self.actor_ref.is_alive())

    threaded_system.spawn(Last).stop()
    failing = threaded_system.spawn(Last)
    failing.tell("fail")
    failing.termination().get(timeout=PATIENCE_SECONDS)
    assert seen == [False, False]


def test_urns_are_version_4_uuids_and_differ(threaded_system: ActorSystem) -> None:
    urns = [threaded_system.spawn(Recorder).actor_urn for _ in range(100)]
    assert len(set(urns)) == 100
    assert {uuid.UUID(urn).version for urn in urns} == {4}


def test_actor_stopped_is_an_event_whenever_it_is_asked_for(threaded_system: ActorSystem) -> None:
    early, late = threaded_system.spawn(Recorder), threaded_system.spawn(Recorder)
    stopped = early.actor_stopped
    assert not stopped.is_set()
    early.stop()
    late.stop()
    assert stopped.wait(PATIENCE_SECONDS)
    assert late.actor_stopped.is_set()


def test_a_constructor_may_make_a_proxy_of_its_actor(threaded_system: ActorSystem) -> None:
    class Selfish(EventActor):
        def __init__(self) -> None:
            super().__init__()
            self._later = self.actor_ref.proxy()

        def now(self) -> Any:
            return self._later.later()

        def later(self) -> str:
            return "later"

    assert threaded_system.spawn(Selfish).proxy().now().get().get() == "later"


def test_a_method_patched_on_the_class_is_the_one_that_runs(
    threaded_system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = threaded_system.spawn(Recorder)
    monkeypatch.setattr(Recorder, "on_receive", lambda self, message: f"patched {message}")
    assert ref.ask("hello") == "patched hello"


def test_messages_of_a_constructor_are_handled_after_on_start(threaded_system: ActorSystem) -> None:
    class Eager(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("from the constructor")

        def on_start(self) -> None:
            self.received.append("on_start")

    assert threaded_system.spawn(Eager).ask("received") == ["on_start", "from the constructor"]


def test_a_value_cannot_be_set_twice() -> None:
    future: EventFuture[int] = EventFuture()
    future.set(1)
    with pytest.raises(queue.Full):
        future.set(2)
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda _: 3)
    assert future.get() == 1


def test_an_async_handler_runs_in_a_task(threaded_system: ActorSystem) -> None:
    async def handler() -> bool:
        async with asyncio.timeout(PATIENCE_SECONDS):  # raises outside of a task
            await asyncio.sleep(0)
        return asyncio.current_task() is not None

    assert threaded_system.spawn(Caller).ask(lambda _: handler()) is True
    assert threaded_system.spawn(PoolCaller).ask(lambda _: handler()) is True


async def test_an_idle_actor_has_no_task(system: ActorSystem) -> None:
    before = asyncio.all_tasks()
    refs = [system.spawn(Caller) for _ in range(10)]
    await refs[-1].ask(lambda _: asyncio.sleep(0), block=False)
    assert asyncio.all_tasks() == before


# Defects of Pykka that are not inherited (§2.3 to §2.5)


@pytest.mark.parametrize("actor_class", [Recorder, PoolRecorder])
def test_an_ask_that_races_a_stop_is_always_answered(threaded_system: ActorSystem, actor_class: type[Recorder]) -> None:
    """Pykka looks at is_alive() and then puts: an ask in between is never answered."""
    for _ in range(20):
        ref = threaded_system.spawn(actor_class)
        begin = threading.Barrier(3)
        answers: list[EventFuture[Any]] = []

        def ask_often(ref: Any = ref, begin: threading.Barrier = begin, answers: list[Any] = answers) -> None:
            begin.wait()
            answers.extend(ref.ask(number, block=False) for number in range(200))

        askers = [threading.Thread(target=ask_often) for _ in range(2)]
        for asker in askers:
            asker.start()
        begin.wait()
        ref.stop(block=False)
        for asker in askers:
            asker.join()
        assert len(answers) == 400
        for answer in answers:
            try:
                answer.get(timeout=PATIENCE_SECONDS)
            except pykka.ActorDeadError:
                continue


async def test_awaiting_an_answer_does_not_block_the_event_loop(threaded_system: ActorSystem) -> None:
    """Pykka's future blocks the loop of whoever awaits it."""
    let_go, entered = threading.Event(), threading.Event()
    answer = threaded_system.spawn(Caller).ask(held(let_go, entered), block=False)
    waiting = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    assert not waiting.done()
    let_go.set()
    assert await waiting == "held"


async def test_a_foreign_future_among_awaited_ones_does_not_block_the_event_loop() -> None:
    ours: EventFuture[int] = EventFuture()
    theirs: pykka.ThreadingFuture[int] = pykka.ThreadingFuture()
    both = asyncio.ensure_future(ours.join(theirs))
    await asyncio.sleep(0)
    ours.set(1)
    await asyncio.sleep(0)
    theirs.set(2)
    assert await both == [1, 2]
    await asyncio.get_running_loop().shutdown_default_executor()


def test_a_forgotten_actor_does_not_keep_the_process_alive() -> None:
    program = (
        "from callboard.actors.actor import EventActor\n"
        "class Forgotten(EventActor):\n"
        "    def on_stop(self): print('stopped', flush=True)\n"
        "class OnThePool(Forgotten): dispatcher = 'pool'\n"
        "Forgotten.start().ask('hello'); OnThePool.start().ask('hello')\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "stopped\nstopped\n"
    assert run.stderr == ""


def test_the_base_class_adds_few_names_to_proxies() -> None:
    """Creating a proxy costs time for each public name, and each hides a user's attribute."""
    added = {name for name in set(dir(EventActor)) - set(dir(pykka.Actor)) if not name.startswith("_")}
    annotated = {"actor_inbox", "actor_stopped", "actor_urn"}  # fields of pykka.Actor, properties here
    settings = {"dispatcher", "expected_failures", "mailbox", "on_gone", "reply_errors", "traps_shutdown"}
    assert added - annotated == settings | {"context"}


def test_the_seam_is_where_it_was() -> None:
    """Pykka's hooks for implementors are private: a release that moves them must not go unnoticed."""
    assert pykka.Actor.__abstractmethods__ == {"_create_actor_inbox", "_create_future", "_start_actor_loop"}


def test_a_hundred_thousand_actors_need_no_threads(threaded_system: ActorSystem) -> None:
    before = threading.active_count()
    refs = [threaded_system.spawn(Recorder) for _ in range(100_000)]
    assert refs[-1].ask("hello") == "hello"
    assert threading.active_count() <= before + 1
    assert len(threaded_system.registry) == 100_000
