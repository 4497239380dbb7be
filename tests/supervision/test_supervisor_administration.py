"""Rules H: what a supervisor can be asked."""

import pykka
import pytest

from callboard.supervision.child_spec import ChildSpec
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
from tests.supervision.theatre import Player


async def test_A9_specifications_have_their_defaults_filled_in(troupe):
    await troupe.supervise(troupe.player("a"))
    assert (await troupe.ask(GetChildSpec("a"))).shutdown_seconds == 5
    assert await troupe.ask(GetChildSpec("z")) == Refused("not_found")


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
