"""What an administrator sees of a system and can do to its actors."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.supervision import actor_tree
from callboard.supervision.admin_messages import AdminRequest, RestartRequest, StopRequest, TreeRequest
from callboard.supervision.administration import Administration, matching
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import StartDynamicChild
from tests.supervision.theatre import Player, Stubborn, Troupe
from tests.support.waiting import settle


async def ask(troupe: Troupe, request: AdminRequest) -> dict[str, Any]:
    answer = await Administration(troupe.system, {"node": "test"}).answer(request)
    assert answer.error is None, answer.error
    assert answer.result is not None
    return answer.result


async def refusal(troupe: Troupe, request: AdminRequest) -> tuple[str, str]:
    answer = await Administration(troupe.system, {}).answer(request)
    assert answer.result is None
    assert answer.error is not None
    return answer.error.code, answer.error.message


def nested(troupe: Troupe, name: str, *parts: str) -> ChildSpec:
    children = [troupe.player(part, name=f"{name}.{part}") for part in parts]
    return ChildSpec(name, Supervisor, (children,), child_type="supervisor")


async def test_the_tree(troupe: Troupe) -> None:
    await troupe.supervise(troupe.player("a"), nested(troupe, "inner", "b", "c"), name="root")
    troupe.system.spawn(Player, "x", troupe.journal)
    await ask(troupe, StopRequest(name="b"))
    tree = await ask(troupe, TreeRequest())
    root, other = tree["actors"]
    assert tree["node"] == "test"
    assert (root["name"], root["strategy"], root["answers"]) == ("root", "one_for_one", True)
    assert [(each["path"], each["type"], each["state"]) for each in root["children"]] == [
        ("root/a", "Player", "running"),
        ("root/inner", "Supervisor", "running"),
    ]
    assert [(each["path"], each["state"]) for each in root["children"][1]["children"]] == [
        ("root/inner/b", "stopped"),
        ("root/inner/c", "running"),
    ]
    assert (other["name"], other["children"]) == ("Player", [])


async def test_a_supervisor_that_is_busy_is_shown_all_the_same(troupe: Troupe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_tree, "ANSWER_SECONDS", 0.01)
    await troupe.supervise(troupe.player("a"), troupe.player("b", Stubborn, shutdown_seconds=3600), name="root")
    stop = asyncio.create_task(ask(troupe, StopRequest(name="b")))
    await troupe.journal.until("stop b")
    (root,) = (await ask(troupe, TreeRequest()))["actors"]
    assert (root["answers"], root["handling"]) == (False, "TerminateChild")
    assert [(child["name"], child["state"]) for child in root["children"]] == [("a", "running"), ("b", "ending")]
    troupe.supervisor.kill()
    await stop if stop.done() else stop.cancel()
    await asyncio.gather(stop, return_exceptions=True)


async def test_many_children_are_counted_and_some_of_them_shown(
    troupe: Troupe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_tree, "MAX_CHILDREN", 2)
    await troupe.supervise(*(troupe.player(part) for part in "abcd"), name="root")
    (root,) = (await ask(troupe, TreeRequest()))["actors"]
    assert ([child["name"] for child in root["children"]], root["children_omitted"]) == (["a", "b"], 2)


async def test_stop_and_restart(troupe: Troupe) -> None:
    await troupe.supervise(troupe.player("a"), troupe.player("b"), name="root", intensity=0)
    assert await ask(troupe, StopRequest(name="a")) == {"path": "root/a", "was": "running", "stopped": ["root/a"]}
    assert await troupe.states() == {"a": "stopped", "b": "running"}
    assert await ask(troupe, StopRequest(name="a")) == {"path": "root/a", "was": "stopped", "stopped": []}
    assert (await ask(troupe, RestartRequest(name="root/a")))["was"] == "stopped"
    assert (await ask(troupe, RestartRequest(name="a")))["restarted"] == ["root/a"]
    assert await troupe.states() == {"a": "running", "b": "running"}
    assert troupe.journal.entries == ["start a", "start b", "stop a", "start a", "stop a", "start a"]


async def test_a_nested_supervisor_is_restarted_with_its_children(troupe: Troupe) -> None:
    await troupe.supervise(nested(troupe, "inner", "b", "c"), name="root", intensity=0)
    await ask(troupe, RestartRequest(name="inner"))
    assert troupe.journal.entries == ["start b", "start c", "stop c", "stop b", "start b", "start c"]


@pytest.mark.parametrize(
    ("strategy", "stopped"), [("one_for_one", "b"), ("rest_for_one", "dcb"), ("one_for_all", "dcba")]
)
async def test_what_depends_on_a_child_stops_and_starts_with_it(troupe: Troupe, strategy, stopped: str) -> None:
    await troupe.supervise(*(troupe.player(part) for part in "abcd"), name="root", intensity=0, strategy=strategy)
    assert (await ask(troupe, StopRequest(name="b")))["stopped"] == [f"root/{part}" for part in stopped]
    assert await troupe.states() == {part: "stopped" if part in stopped else "running" for part in "abcd"}
    assert (await ask(troupe, RestartRequest(name="b")))["restarted"] == [f"root/{part}" for part in sorted(stopped)]
    assert set((await troupe.states()).values()) == {"running"}
    assert troupe.journal.entries[4:] == [
        *(f"stop {part}" for part in stopped),
        *(f"start {part}" for part in sorted(stopped)),
    ]


async def test_a_temporary_child_that_depends_on_another_is_gone(troupe: Troupe) -> None:
    await troupe.supervise(
        troupe.player("a"), troupe.player("b", restart="temporary"), name="root", strategy="rest_for_one"
    )
    assert (await ask(troupe, RestartRequest(name="a")))["restarted"] == ["root/a"]
    assert await troupe.states() == {"a": "running"}


async def test_a_child_of_a_dynamic_supervisor_can_be_stopped_and_not_restarted(troupe: Troupe) -> None:
    child = ChildSpec("player", Player, ("a", troupe.journal), restart="transient")
    dynamic = troupe.system.spawn(DynamicSupervisor, child, name="root")
    await dynamic.ask(StartDynamicChild(), block=False)
    code, message = await refusal(troupe, RestartRequest(name="Player"))
    assert (code, "dynamic supervisor" in message) == ("refused", True)
    assert troupe.journal.entries == ["start a"]
    assert (await ask(troupe, StopRequest(name="Player")))["stopped"] == ["root/Player"]
    assert troupe.journal.entries == ["start a", "stop a"]


async def test_restarts_are_counted(troupe: Troupe) -> None:
    await troupe.supervise(troupe.player("a"), troupe.player("b"), name="root", intensity=5)
    await troupe.crash("b", times=2)
    (root,) = (await ask(troupe, TreeRequest()))["actors"]
    assert [child["restarts"] for child in root["children"]] == [0, 2]


async def test_a_child_that_does_not_start_again(troupe: Troupe) -> None:
    ill = asyncio.Event()
    await troupe.supervise(troupe.player("a", options={"fails_to_start": ill.is_set}), name="root")
    ill.set()
    code, message = await refusal(troupe, RestartRequest(name="a"))
    assert code == "start_failed"
    assert message == "root/a does not start again: LookupError('a is ill'). Down are now: root/a"
    assert await troupe.states() == {"a": "stopped"}


async def test_what_cannot_be_done_changes_nothing(troupe: Troupe) -> None:
    await troupe.supervise(
        nested(troupe, "one", "b"), nested(troupe, "two", "b"), troupe.player("once", restart="temporary"), name="root"
    )
    before = list(troupe.journal.entries)
    assert await refusal(troupe, StopRequest(name="z")) == (
        "not_found",
        "no actor 'z' here; `callboard actor tree` shows all",
    )
    assert await refusal(troupe, StopRequest(name="b")) == (
        "ambiguous",
        "2 actors are called 'b': root/one/b, root/two/b; give one of these paths",
    )
    assert (await refusal(troupe, StopRequest(name="root")))[0] == "refused"
    code, message = await refusal(troupe, RestartRequest(name="once"))
    assert (code, "temporary" in message) == ("refused", True)
    assert troupe.journal.entries == before


async def test_a_supervisor_that_does_not_answer_in_time(troupe: Troupe) -> None:
    troupe.system.ask_timeout_seconds = 0.01
    await troupe.supervise(troupe.player("a", Stubborn, shutdown_seconds=3600), name="root")
    code, message = await refusal(troupe, StopRequest(name="a"))
    assert code == "unanswered"
    assert "has not done it yet" in message
    troupe.supervisor.kill()
    await settle()


paths = st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, unique=True), paths)
def test_a_name_means_the_path_that_it_is_or_those_that_end_with_it(known: list[str], name: str) -> None:
    found = [known[index] for index in matching(known, name)]
    if name in known:
        assert found == [name]
    else:
        assert found == [path for path in known if path.split("/")[-len(name.split("/")) :] == name.split("/")]
