"""Rules A and B: how a supervisor starts its children."""

import asyncio

import pykka
import pytest

from callboard.actors.control import Ignore, Stop
from callboard.actors.errors import ActorError, ConfigurationError, InvalidSpecification
from callboard.actors.mailbox import MailboxSpec
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_flags import SupervisorFlags
from callboard.supervision.supervisor_messages import (
    ChildCounts,
    ChildStarted,
    RestartChild,
    StartChild,
    StartFailed,
    TerminateChild,
)
from tests.supervision.theatre import Player


async def test_A1_defaults_allow_one_restart_in_five_seconds(troupe):
    await troupe.supervise(troupe.player("a"))
    await troupe.crash("a")
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"intensity": -1}, "intensity -1"),
        ({"period_seconds": 0}, "period_seconds 0"),
        ({"intensity": None}, "intensity None"),
    ],
)
async def test_A4_wrong_flags_are_refused_and_nothing_starts(troupe, flags, message):
    with pytest.raises(ConfigurationError, match=message):
        troupe.system.spawn(Supervisor, [troupe.player("a")], **flags)
    assert troupe.journal.entries == []


async def test_A6_duplicate_ids_are_refused_and_nothing_starts(troupe):
    with pytest.raises(ConfigurationError, match="'a' is given twice"):
        troupe.system.spawn(Supervisor, [troupe.player("a"), troupe.player("a")])
    assert troupe.journal.entries == []


async def test_B1_children_start_one_after_the_other(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), troupe.player("c"))
    assert troupe.journal.entries == ["start a", "start b", "start c"]


@pytest.mark.parametrize("fault", ["fails_to_start", "fails_in_constructor"])
async def test_B6_a_failed_first_start_ends_those_before_and_the_supervisor(troupe, fault):
    troupe.supervisor = troupe.system.spawn(
        Supervisor,
        [troupe.player("a"), troupe.player("b"), troupe.player("c", options={fault: lambda: True}), troupe.player("d")],
        intensity=10,
    )
    end = await troupe.end()
    assert [entry for entry in troupe.journal.entries if entry != "fail c"] == [
        "start a",
        "start b",
        "stop b",
        "stop a",
    ]
    assert isinstance(end.exception, ActorError)
    assert "could not start its child 'c'" in str(end.exception)
    assert isinstance(end.exception.__cause__, LookupError)


async def test_B6_who_asks_a_supervisor_that_could_not_start_is_told(troupe):
    with pytest.raises(pykka.ActorDeadError):
        await troupe.supervise(troupe.player("a", options={"fails_to_start": lambda: True}))


async def test_a_start_may_take_as_long_as_it_takes_and_the_supervisor_can_be_killed_meanwhile(troupe):
    begun = asyncio.Event()

    class Late(Supervisor):
        async def on_start(self) -> None:
            begun.set()
            await asyncio.Event().wait()

    troupe.system.ask_timeout_seconds = 0.01
    troupe.supervisor = troupe.system.spawn(Supervisor, [ChildSpec("late", Late)])
    await begun.wait()
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


async def test_a_child_whose_mailbox_was_full_at_once_counts_as_started(troupe):
    class Popular(Player):
        mailbox = MailboxSpec(capacity=1)

        def __init__(self, *args) -> None:
            super().__init__(*args)
            self.actor_ref.tell("hello")

    await troupe.supervise(troupe.player("a", Popular))
    assert await troupe.states() == {"a": "running"}


class Casting(Player):
    """Ends its start by what it is given: returns it, or raises it."""

    def __init__(self, part, journal, *, outcome=None, in_constructor=False):
        super().__init__(part, journal)
        self.outcome = outcome
        if in_constructor:
            raise outcome

    async def on_start(self):
        await super().on_start()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def casting(troupe, part, outcome, **spec):
    in_constructor = spec.pop("in_constructor", False)
    return troupe.player(part, Casting, options={"outcome": outcome, "in_constructor": in_constructor}, **spec)


@pytest.mark.parametrize("in_constructor", [False, True])
@pytest.mark.parametrize("outcome", [ValueError("ill"), Stop("elsewhere"), SystemExit(3), asyncio.CancelledError()])
async def test_B2_whatever_a_start_raises_is_its_failure_and_never_the_supervisors(troupe, outcome, in_constructor):
    await troupe.supervise(troupe.player("a"), intensity=0)
    answer = await troupe.ask(StartChild(casting(troupe, "b", outcome, in_constructor=in_constructor)))
    assert isinstance(answer, StartFailed)
    assert type(answer.exception) is type(outcome)
    assert await troupe.states() == {"a": "running"}


async def test_B2_a_child_that_is_killed_while_it_starts_has_not_started(troupe):
    begun = asyncio.Event()

    class Slow(Player):
        async def on_start(self):
            begun.set()
            await asyncio.Event().wait()

    await troupe.supervise(troupe.player("a"), intensity=0)
    answer = troupe.ask_now(StartChild(troupe.player("b", Slow)))
    await begun.wait()
    troupe.system.registry.get("b").kill()
    assert isinstance((await answer).exception, pykka.ActorDeadError)
    assert await troupe.states() == {"a": "running"}


async def test_B3_what_on_start_returns_goes_to_who_started_the_child(troupe):
    await troupe.supervise()
    answer = await troupe.ask(StartChild(casting(troupe, "a", {"costume": "red"})))
    assert answer == ChildStarted(troupe.system.registry.get("a"), {"costume": "red"})
    await troupe.ask(TerminateChild("a"))
    assert (await troupe.ask(RestartChild("a"))).info == {"costume": "red"}


@pytest.mark.parametrize("in_constructor", [False, True])
@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_B4_who_is_not_needed_stays_without_an_actor(troupe, restart, in_constructor):
    spec = casting(troupe, "a", Ignore(), restart=restart, in_constructor=in_constructor)
    await troupe.supervise(spec, troupe.player("b"), intensity=0)
    assert await troupe.states() == {"a": "stopped", "b": "running"}
    assert await troupe.count() == ChildCounts(specs=2, active=1, supervisors=0, workers=2)
    assert await troupe.ask(RestartChild("a")) == ChildStarted(None)


async def test_B5_a_temporary_child_that_is_not_needed_is_forgotten(troupe):
    spec = casting(troupe, "a", Ignore(), restart="temporary")
    await troupe.supervise(spec, troupe.player("b"))
    assert await troupe.states() == {"b": "running"}
    assert await troupe.ask(StartChild(spec)) == ChildStarted(None)
    assert await troupe.states() == {"b": "running"}


class Decides(Supervisor):
    """Its ``init`` returns or raises what it is given."""

    def __init__(self, outcome):
        super().__init__()
        self.outcome = outcome

    def init(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def test_B7_init_may_ignore(troupe):
    troupe.supervisor = troupe.system.spawn(Decides, Ignore())
    assert (await troupe.end()).reason == "normal"
    await troupe.supervise(ChildSpec("inner", Decides, (Ignore(),), child_type="supervisor"))
    assert await troupe.states() == {"inner": "stopped"}


@pytest.mark.parametrize(
    ("outcome", "exception"),
    [
        (ValueError("no programme"), ValueError),
        ((SupervisorFlags(), [{"id": "a"}]), InvalidSpecification),
        ("garbage", ValueError),
    ],
)
async def test_B7_init_that_fails_is_a_failed_start(troupe, outcome, exception):
    await troupe.supervise(troupe.player("a"))
    answer = await troupe.ask(StartChild(ChildSpec("inner", Decides, (outcome,), child_type="supervisor")))
    assert isinstance(answer.exception, exception)
    assert await troupe.states() == {"a": "running"}


async def test_B7_init_decides_about_flags_and_children(troupe):
    troupe.supervisor = troupe.system.spawn(Decides, (SupervisorFlags(intensity=0), [troupe.player("a")]))
    assert await troupe.states() == {"a": "running"}
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"


async def test_a_child_that_ends_at_once_after_its_start_is_seen_to_end(troupe):
    class Short(Player):
        async def on_start(self):
            await super().on_start()
            self.actor_ref.tell("crash")

    await troupe.supervise(troupe.player("a", Short, restart="temporary"), troupe.player("b"))
    assert await troupe.states() == {"b": "running"}
