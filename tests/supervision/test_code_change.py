"""Rule H11: other flags and specifications for a supervisor that runs."""

import pytest

from callboard.actors.control import Ignore
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_flags import SupervisorFlags
from callboard.supervision.supervisor_messages import (
    ChildStarted,
    CodeChange,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartDynamicChild,
    TerminateChild,
)
from tests.supervision.theatre import Player


async def test_H11_who_is_in_the_new_list_goes_on_and_who_is_new_is_not_started(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), troupe.player("c"), intensity=5)
    before = await troupe.refs()
    await troupe.ask(TerminateChild("c"))
    new = [troupe.player("d"), troupe.player("c"), troupe.player("a", restart="transient")]
    assert await troupe.ask(CodeChange(children=new)) == Done()
    assert await troupe.states() == {"d": "stopped", "c": "stopped", "a": "running", "b": "running"}, "b is kept, last"
    after = await troupe.refs()
    assert (after["a"], after["b"]) == (before["a"], before["b"])
    assert troupe.journal.entries == ["start a", "start b", "start c", "stop c"]
    assert isinstance(await troupe.ask(RestartChild("d")), ChildStarted)
    troupe.tell("a", "stop")
    await troupe.journal.until("stop a")
    assert (await troupe.states())["a"] == "stopped", "the new specification holds: transient"


async def test_H11_the_new_order_is_the_order_of_the_end(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), troupe.player("c"))
    await troupe.ask(CodeChange(children=[troupe.player("c"), troupe.player("b")]))
    troupe.supervisor.shutdown()
    await troupe.end()
    assert troupe.journal.entries[3:] == ["stop a", "stop b", "stop c"]


async def test_H11_new_flags_hold_and_earlier_restarts_still_count(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), intensity=2)
    await troupe.crash("a")
    assert await troupe.ask(CodeChange(SupervisorFlags("one_for_all", 2))) == Done()
    await troupe.crash("a")
    assert troupe.journal.entries[-3:] == ["stop b", "start a", "start b"]
    assert await troupe.ask(CodeChange(SupervisorFlags("one_for_one", 3))) == Done()
    await troupe.crash("a")
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"


async def test_H11_a_child_that_is_being_restarted_goes_on_trying_as_the_new_specification_says(troupe):
    ill = []
    fails = {"fails_to_start": lambda: bool(ill)}
    await troupe.supervise(troupe.player("a", options=fails), intensity=1000)
    ill.append(True)
    troupe.tell("a", "crash")
    await troupe.journal.until("fail a")
    assert await troupe.ask(CodeChange(children=[troupe.player("a")])) == Done()
    await troupe.journal.until("start a", 2)
    assert await troupe.states() == {"a": "running"}


@pytest.mark.parametrize(
    ("flags", "children", "reason"),
    [
        (None, [{"id": "x"}], "missing_start"),
        (None, 7, "badarg"),
        (None, [{"id": "x", "actor_class": Player}] * 2, "duplicate_child_name"),
        (
            SupervisorFlags(intensity=9),
            [{"id": "x", "actor_class": Player, "restart": "transient", "significant": True}],
            "bad_combination",
        ),
    ],
)
async def test_H11_what_is_wrong_is_refused_and_changes_nothing(troupe, flags, children, reason):
    await troupe.supervise(troupe.player("a"), intensity=0)
    answer = await troupe.ask(CodeChange(flags, children))
    assert isinstance(answer, Refused)
    assert answer.reason == reason
    assert await troupe.states() == {"a": "running"}
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown", "the flags are the old ones"


async def test_H11_without_values_init_is_asked_again(troupe):
    class Changing(Supervisor):
        answers = iter(
            [
                (SupervisorFlags(), [troupe.player("a")]),
                (SupervisorFlags(), [troupe.player("b"), troupe.player("a")]),
                Ignore(),
                ValueError("no programme"),
            ]
        )

        def init(self):
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    troupe.supervisor = troupe.system.spawn(Changing)
    assert await troupe.states() == {"a": "running"}
    assert await troupe.ask(CodeChange()) == Done()
    assert await troupe.states() == {"b": "stopped", "a": "running"}
    assert await troupe.ask(CodeChange()) == Done(), "ignored"
    assert await troupe.ask(CodeChange()) == Refused("init_failed", message="ValueError('no programme')")
    assert await troupe.states() == {"b": "stopped", "a": "running"}


async def test_H11_flags_of_one_change_are_there_at_the_next(troupe):
    await troupe.supervise(troupe.player("a"))
    await troupe.ask(CodeChange(children=[troupe.player("b")]))
    await troupe.ask(CodeChange(SupervisorFlags(intensity=0)))
    assert list(await troupe.states()) == ["b", "a"]


async def dynamic(troupe, **spec):
    template = troupe.player("each", **spec)
    troupe.supervisor = troupe.system.spawn(DynamicSupervisor, template, intensity=5)
    return (await troupe.ask(StartDynamicChild(kwargs={"fails_to_start": lambda: False}))).ref


async def test_H11_below_a_dynamic_supervisor_the_new_specification_holds_for_those_who_run(troupe):
    ref = await dynamic(troupe)
    assert await troupe.ask(CodeChange(children=[troupe.player("other", restart="transient")])) == Done()
    assert (await troupe.ask(GetChildSpec("any"))).id == "other"
    assert (await troupe.count()).active == 1
    ref.tell("crash")
    await troupe.journal.until("start each", 2)
    assert (await troupe.count()).active == 1, "restarted with the arguments that it was started with"
    (child,) = (await troupe.refs()).values()
    child.tell("stop")
    await troupe.journal.until("stop each")
    assert (await troupe.count()).workers == 0


async def test_H11_temporary_dynamic_children_stay_temporary(troupe):
    ref = await dynamic(troupe, restart="temporary")
    assert await troupe.ask(CodeChange(children=[troupe.player("each")])) == Done()
    ref.tell("crash")
    await troupe.journal.until("crash each")
    assert (await troupe.count()).workers == 0
    await troupe.ask(StartDynamicChild())
    (child,) = (await troupe.refs()).values()
    child.tell("crash")
    await troupe.journal.until("start each", 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (CodeChange(SupervisorFlags("one_for_all")), "invalid_strategy"),
        (CodeChange(children=[]), "bad_start_spec"),
        (CodeChange(children=[{"id": "x"}]), "missing_start"),
    ],
)
async def test_H11_a_dynamic_supervisor_keeps_its_kind_and_its_one_specification(troupe, change, reason):
    await dynamic(troupe)
    answer = await troupe.ask(change)
    assert isinstance(answer, Refused)
    assert answer.reason == reason
    assert (await troupe.ask(GetChildSpec("any"))).id == "each"
