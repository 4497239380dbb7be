"""Rules G: how children end."""

import asyncio
import threading

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.messages import Shutdown
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.ending import KILL_AGAIN_SECONDS, KILLS
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import (
    ChildStarted,
    Done,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from tests.supervision.theatre import PATIENCE_SECONDS, Player, Stubborn


async def test_G1_children_stop_in_reverse_order_of_their_places(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abcd"), intensity=5)
    await troupe.crash("b")
    troupe.supervisor.shutdown()
    await troupe.end()
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries[-4:] == ["stop d", "stop c", "stop b", "stop a"]


async def test_G1_a_plain_shutdown_leaves_no_child_either(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abc"))
    troupe.supervisor.shutdown()
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries[-3:] == ["stop c", "stop b", "stop a"]


@pytest.mark.parametrize("swallows", [0, 1, KILLS - 1])
async def test_G2_a_child_that_does_not_stop_in_time_is_killed(troupe, swallows):
    stubborn = troupe.player("a", Stubborn, shutdown_seconds=7, options={"swallows": swallows})
    await troupe.supervise(stubborn, troupe.player("b"))
    termination = (await troupe.refs())["a"].termination()
    answer = troupe.ask_now(TerminateChild("a"))
    await troupe.journal.until("stop a")
    await troupe.let_time_pass(7, *[KILL_AGAIN_SECONDS] * swallows)
    assert await answer == Done()
    assert (await termination).reason == "killed"
    assert troupe.journal.entries == ["start a", "start b", "stop a"]
    assert await troupe.states() == {"a": "stopped", "b": "running"}


async def test_G2_a_coroutine_that_swallows_every_kill_is_abandoned_and_counted(troupe):
    await troupe.supervise(troupe.player("a", Stubborn, shutdown_seconds=7, options={"swallows": KILLS}))
    dispatcher = troupe.system.dispatcher_for(Stubborn)
    termination = (await troupe.refs())["a"].termination()
    answer = troupe.ask_now(TerminateChild("a"))
    await troupe.journal.until("stop a")
    await troupe.let_time_pass(7, *[KILL_AGAIN_SECONDS] * KILLS)
    assert await answer == Done()
    assert (await termination).reason == "killed"
    assert troupe.system.registry.get("a") is None
    assert dispatcher.abandoned_tasks == 1
    (task,) = (each for each in asyncio.all_tasks() if "on_stop" in repr(each.get_coro()) or "_contained" in repr(each))
    task.cancel()
    await asyncio.wait((task,))
    assert dispatcher.abandoned_tasks == 0


async def test_G2_a_thread_that_hangs_is_abandoned(troupe):
    begun, released = threading.Event(), threading.Event()

    class Hanging(Player):
        dispatcher = "pool"

        def on_receive(self, message: object) -> None:
            begun.set()
            released.wait(PATIENCE_SECONDS)

    await troupe.supervise(troupe.player("a", Hanging, shutdown_seconds=7))
    try:
        troupe.tell("a", "hang")
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        termination = (await troupe.refs())["a"].termination()
        answer = troupe.ask_now(TerminateChild("a"))
        await troupe.let_time_pass(7)
        assert await answer == Done()
        assert (await termination).reason == "killed"
        assert troupe.system.pool_dispatcher.abandoned_threads == 1
        assert isinstance(await troupe.ask(RestartChild("a")), ChildStarted), "its name is free again"
    finally:
        released.set()


async def test_G3_infinity_waits_until_the_child_has_stopped(troupe):
    await troupe.supervise(troupe.player("a", shutdown_seconds="infinity"))
    termination = (await troupe.refs())["a"].termination()
    assert await troupe.ask(TerminateChild("a")) == Done()
    assert (await termination).reason == "shutdown"


async def test_G4_brutal_kill_runs_no_hook(troupe):
    await troupe.supervise(troupe.player("a", shutdown_seconds="brutal_kill"))
    termination = (await troupe.refs())["a"].termination()
    assert await troupe.ask(TerminateChild("a")) == Done()
    assert (await termination).reason == "killed"
    assert troupe.journal.entries == ["start a"]


async def test_G_a_nested_supervisor_ends_its_children_as_their_specifications_say(troupe):
    inner = [troupe.player("a"), troupe.player("b", Stubborn, shutdown_seconds=7)]
    await troupe.supervise(ChildSpec("inner", Supervisor, (inner,), child_type="supervisor"))
    answer = troupe.ask_now(TerminateChild("inner"))
    await troupe.journal.until("stop b")
    await troupe.let_time_pass(7)
    assert await answer == Done()
    assert troupe.journal.entries[-2:] == ["stop b", "stop a"]


def reports(caplog):
    return [message for message in caplog.messages if "told to stop" in message]


class Ends(Player):
    """Ends otherwise than it is told to: by what it is given."""

    def __init__(self, part, journal, *, how):
        super().__init__(part, journal)
        self.how = how

    traps_shutdown = True

    def on_receive(self, message):
        if isinstance(message, Shutdown):
            if isinstance(self.how, Exception):
                raise self.how
            self.context.exit(self.how)


@pytest.mark.parametrize(
    ("restart", "how", "reported"),
    [
        ("permanent", "shutdown", False),
        ("permanent", "normal", True),
        ("permanent", "the play is over", True),
        ("transient", "normal", False),
        ("temporary", "the play is over", False),
        ("transient", ValueError("forgot the text"), True),
    ],
)
async def test_G5_an_unexpected_end_is_reported_and_hurts_nobody(troupe, caplog, restart, how, reported):
    caplog.set_level("INFO")
    child = troupe.player("a", Ends, restart=restart, options={"how": how})
    await troupe.supervise(child, troupe.player("b"), intensity=0)
    assert await troupe.ask(TerminateChild("a")) == Done()
    assert bool(reports(caplog)) is reported
    assert (await troupe.states())["b"] == "running"


async def test_G5_a_kill_that_was_wanted_is_not_reported_and_one_after_the_time_is(troupe, caplog):
    caplog.set_level("INFO")
    await troupe.supervise(
        troupe.player("a", shutdown_seconds="brutal_kill"), troupe.player("b", Stubborn, shutdown_seconds=7)
    )
    await troupe.ask(TerminateChild("a"))
    assert reports(caplog) == []
    answer = troupe.ask_now(TerminateChild("b"))
    await troupe.journal.until("stop b")
    await troupe.let_time_pass(7)
    assert await answer == Done()
    assert reports(caplog) == ["child 'b': 1 ended by killed (None) when told to stop"]


async def test_G6_a_child_that_detached_itself_holds_nobody_up(troupe):
    class Detached(Player):
        async def on_start(self):
            await super().on_start()
            self.actor_ref.actor_inbox.unwatch(supervisor.actor_inbox)

    supervisor = await troupe.supervise(troupe.player("x"))
    await troupe.ask(StartChild(troupe.player("a", Detached)))
    assert await troupe.ask(TerminateChild("a")) == Done()
    assert await troupe.states() == {"x": "running", "a": "stopped"}


@pytest.mark.parametrize("reason", ["shutdown", "the play is over"])
async def test_G8_a_supervisor_ends_by_its_parents_reason_after_its_children(troupe, reason):
    inner = ChildSpec("inner", Supervisor, ([troupe.player("a"), troupe.player("b")],), child_type="supervisor")
    await troupe.supervise(inner, troupe.player("x"))
    end = (await troupe.refs())["inner"].termination()
    troupe.supervisor.shutdown(reason)
    assert (await end).reason == "shutdown", "what children of a supervisor are told"
    assert (await troupe.end()).reason == reason
    assert troupe.journal.entries[-3:] == ["stop x", "stop b", "stop a"]


async def test_G8_so_does_one_that_is_stopped_as_pykka_stops_actors(troupe):
    class Late(Player):
        async def on_stop(self):
            await asyncio.Event().wait()

    await troupe.supervise(troupe.player("a"), troupe.player("b", Late, shutdown_seconds=7))
    stopped = troupe.supervisor.stop(block=False)
    await troupe.let_time_pass(7)
    assert await stopped is True
    assert (await troupe.end()).reason == "normal"
    assert troupe.journal.entries == ["start a", "start b", "stop a"], "the specification says how long b may take"


async def test_G9_other_calls_wait_while_a_child_ends_and_the_dispatcher_does_not(troupe):
    await troupe.supervise(troupe.player("a", Stubborn, shutdown_seconds=7), troupe.player("b"))
    first, second = troupe.ask_now(TerminateChild("a")), troupe.ask_now(WhichChildren())
    await troupe.journal.until("stop a")
    assert await troupe.system.registry.get("b").ask("hello", block=False) == 1, "the dispatcher is free"
    assert not first.done()
    assert not second.done()
    await troupe.let_time_pass(7)
    assert await first == Done()
    assert [child.state for child in await second] == ["running", "stopped"]


async def test_G9_a_child_that_asks_its_own_supervisor_while_it_ends_is_killed_in_time(troupe):
    class Asking(Player):
        async def on_stop(self):
            self.journal.write(f"ask {self.part}")
            await supervisor.ask(WhichChildren(), block=False)

    supervisor = await troupe.supervise(troupe.player("a", Asking, shutdown_seconds=7))
    answer = troupe.ask_now(TerminateChild("a"))
    await troupe.journal.until("ask a")
    await troupe.let_time_pass(7)
    assert await answer == Done()
    assert await troupe.states() == {"a": "stopped"}


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
async def test_G2_a_thread_that_hangs_in_a_hook_is_abandoned(troupe, hook):
    begun, released = threading.Event(), threading.Event()

    def hang(_):
        begun.set()
        released.wait(PATIENCE_SECONDS)

    hanging = type("Hanging", (EventActor,), {"dispatcher": "pool", hook: hang})
    await troupe.supervise()
    try:
        answer = troupe.ask_now(StartChild(ChildSpec("a", hanging, shutdown_seconds=7)))
        if hook == "on_stop":
            await answer
            answer = troupe.ask_now(TerminateChild("a"))
            await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
            await troupe.let_time_pass(7)
            assert await answer == Done()
        else:
            await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
            troupe.supervisor.kill()
            assert (await troupe.end()).reason == "killed"
            with pytest.raises(pykka.ActorDeadError):
                await answer
        assert troupe.system.registry.get("a") is None
        assert troupe.system.pool_dispatcher.abandoned_threads == 1
    finally:
        released.set()


async def test_G2_what_hangs_below_a_supervisor_that_is_killed_is_abandoned_with_it(troupe):
    stubborn = troupe.player("a", Stubborn, options={"swallows": 99})
    inner = ChildSpec("inner", Supervisor, ([stubborn],), child_type="supervisor", shutdown_seconds="brutal_kill")
    await troupe.supervise(inner)
    troupe.system.registry.get("a").shutdown()
    await troupe.journal.until("stop a")
    answer = troupe.ask_now(TerminateChild("inner"))
    await troupe.let_time_pass(*[KILL_AGAIN_SECONDS] * KILLS)
    assert await answer == Done()
    assert troupe.system.registry.get("a") is None
    dispatcher = troupe.system.dispatcher_for(Stubborn)
    assert dispatcher.abandoned_tasks == 1
    (task,) = dispatcher._abandoned
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert dispatcher.abandoned_tasks == 0
