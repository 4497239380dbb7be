"""Rules G and H: how children end, and what a supervisor can be asked."""

import asyncio
import threading

import pykka
import pytest

from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.ending import KILL_AGAIN_SECONDS, KILLS
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import (
    ChildCounts,
    ChildStarted,
    ChildStatus,
    CountChildren,
    DeleteChild,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartChild,
    StartFailed,
    TerminateChild,
    WhichChildren,
)
from tests.supervision.theatre import PATIENCE_SECONDS, Player, Stubborn


async def test_A9_specifications_have_their_defaults_filled_in(troupe):
    await troupe.supervise(troupe.player("a"))
    assert (await troupe.ask(GetChildSpec("a"))).shutdown_seconds == 5
    assert await troupe.ask(GetChildSpec("z")) == Refused("not_found")


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

    await troupe.supervise(troupe.player("a", Hanging, shutdown_seconds=0.01))
    try:
        troupe.tell("a", "hang")
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        termination = (await troupe.refs())["a"].termination()
        assert await troupe.ask(TerminateChild("a")) == Done()
        assert termination.is_done
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


async def test_H1_an_id_is_used_once(troupe):
    await troupe.supervise(troupe.player("a"))
    ref = (await troupe.refs())["a"]
    assert await troupe.ask(StartChild(troupe.player("a"))) == Refused("already_started", ref)
    await troupe.ask(TerminateChild("a"))
    assert await troupe.ask(StartChild(troupe.player("a"))) == Refused("already_present")


async def test_H1_a_new_child_joins_as_the_newest(troupe):
    await troupe.supervise(troupe.player("a"))
    answer = await troupe.ask(StartChild(troupe.player("b")))
    assert answer == ChildStarted(troupe.system.registry.get("b"))
    await troupe.crash("b")
    assert await troupe.states() == {"a": "running", "b": "running"}


@pytest.mark.parametrize("fault", ["fails_to_start", "fails_in_constructor"])
async def test_H2_a_child_that_does_not_start_is_not_added(troupe, fault):
    await troupe.supervise(troupe.player("a"), intensity=0)
    answer = await troupe.ask(StartChild(troupe.player("b", options={fault: lambda: True})))
    assert isinstance(answer, StartFailed)
    assert isinstance(answer.exception, LookupError)
    assert await troupe.states() == {"a": "running"}


async def test_H2_a_name_that_is_taken_is_a_failed_start(troupe):
    await troupe.supervise(troupe.player("a"))
    answer = await troupe.ask(StartChild(troupe.player("b", name="a")))
    assert "the name 'a' is taken" in str(answer.exception)
    assert await troupe.states() == {"a": "running"}


async def test_H3_terminating_is_idempotent_and_keeps_the_specification(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b", restart="temporary"))
    assert [await troupe.ask(TerminateChild("a")) for _ in range(2)] == [Done(), Done()]
    assert await troupe.ask(TerminateChild("b")) == Done()
    assert await troupe.states() == {"a": "stopped"}, "a temporary child is forgotten"
    assert await troupe.ask(TerminateChild("b")) == Refused("not_found")


async def test_H4_only_a_child_that_is_down_can_be_restarted(troupe):
    ill = []
    await troupe.supervise(troupe.player("a", options={"fails_to_start": lambda: bool(ill)}), intensity=0)
    assert await troupe.ask(RestartChild("a")) == Refused("running")
    assert await troupe.ask(RestartChild("z")) == Refused("not_found")
    await troupe.ask(TerminateChild("a"))
    ill.append(True)
    assert isinstance(await troupe.ask(RestartChild("a")), StartFailed)
    assert await troupe.states() == {"a": "stopped"}, "no retry, no count"
    ill.clear()
    assert await troupe.ask(RestartChild("a")) == ChildStarted(troupe.system.registry.get("a"))


async def test_H5_only_a_child_that_is_down_can_be_deleted(troupe):
    await troupe.supervise(troupe.player("a"))
    assert await troupe.ask(DeleteChild("a")) == Refused("running")
    await troupe.ask(TerminateChild("a"))
    assert await troupe.ask(DeleteChild("a")) == Done()
    assert await troupe.ask(DeleteChild("a")) == Refused("not_found")
    assert await troupe.states() == {}


async def test_F5_a_child_that_is_being_restarted_can_be_neither_started_nor_deleted(troupe):
    ill = []
    await troupe.supervise(troupe.player("a", options={"fails_to_start": lambda: bool(ill)}), intensity=1000)
    ill.append(True)
    troupe.tell("a", "crash")
    await troupe.journal.until("fail a")
    assert await troupe.ask(RestartChild("a")) == Refused("restarting")
    assert await troupe.ask(DeleteChild("a")) == Refused("restarting")
    assert await troupe.ask(StartChild(troupe.player("a"))) == Refused("already_present")
    await troupe.ask(TerminateChild("a"))


async def test_H6_children_are_listed_newest_first(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"))
    find = troupe.system.registry.get
    assert await troupe.ask(WhichChildren()) == (
        ChildStatus("b", find("b"), "running", "worker", Player, 0),
        ChildStatus("a", find("a"), "running", "worker", Player, 0),
    )


async def test_H7_children_are_counted_by_type_dead_ones_too(troupe):
    inner = ChildSpec("inner", Supervisor, ([],), child_type="supervisor")
    await troupe.supervise(troupe.player("a"), troupe.player("b"), inner)
    await troupe.ask(TerminateChild("a"))
    assert await troupe.ask(CountChildren()) == ChildCounts(specs=3, active=2, supervisors=1, workers=2)


async def test_H9_asking_a_dead_supervisor_fails_and_does_not_hang(troupe):
    await troupe.supervise(troupe.player("a"))
    troupe.supervisor.shutdown()
    await troupe.end()
    with pytest.raises(pykka.ActorDeadError):
        await troupe.ask(WhichChildren())
