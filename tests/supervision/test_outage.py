"""Outages: children that fail by something outside them wait for it to pass, and the log has one line at each end."""

import logging

import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import StoreError, StoreUnavailable
from callboard.supervision.backoff import Backoff
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.outage import Outage
from callboard.supervision.supervisor_messages import TerminateChild, WhichChildren
from callboard.supervision.supervisor_telemetry import NoSupervisorTelemetry
from tests.supervision.theatre import Troupe
from tests.support.waiting import settle

BACKOFF = Backoff(initial_seconds=1, max_seconds=8, jitter_ratio=0, uncounted=(StoreError,))


class Box:
    """What the clients below need, and have or not."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.tries = 0


class Client(EventActor):
    """Needs the box to have no failure, at its start and at each message."""

    expected_failures = (StoreError,)

    def __init__(self, box: Box) -> None:
        super().__init__()
        self.box = box

    def on_start(self) -> None:
        self.actor_ref.tell("try")

    def on_receive(self, message: object) -> None:
        self.box.tries += 1
        if self.box.failure is not None:
            raise self.box.failure
        self.context.report_success()


class Counted(NoSupervisorTelemetry):
    def __init__(self) -> None:
        self.restarts = 0

    def child_restarted(self, supervisor: str, strategy: str, actor_type: str) -> None:
        self.restarts += 1


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "callboard")
    return caplog


@pytest.fixture
def box() -> Box:
    return Box()


def client(box: Box, name: str = "client") -> ChildSpec:
    return ChildSpec(name, Client, (box,))


async def test_it_is_waited_for_ever_longer_and_counts_as_no_restart(troupe: Troupe, box: Box, log) -> None:
    telemetry = Counted()
    box.failure = StoreUnavailable("the server is down")
    await troupe.supervise(client(box), name="root", intensity=0, backoff=BACKOFF, telemetry=telemetry)
    for delay in (1, 2, 4, 8, 8, 8):
        await settle()
        assert troupe.clock.delays() == [delay]
        troupe.clock.advance(delay)
    await settle()
    assert box.tries == 7
    assert telemetry.restarts == 0
    assert [(record.levelname, record.exc_info) for record in log.records] == [("WARNING", None)]
    assert "'client' cannot work: the server is down (StoreUnavailable)" in log.text

    box.failure = None
    troupe.clock.advance(8)
    await settle()
    assert [record.message for record in log.records[1:]] == ["supervisor root: all children work again, after 39.0 s"]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
async def test_it_is_one_outage_however_many_are_restarted_with_the_child(
    troupe: Troupe, box: Box, log, strategy
) -> None:
    box.failure = StoreUnavailable("the server is down")
    others = (troupe.player("before"), client(box), troupe.player("after"))
    await troupe.supervise(*others, name="root", intensity=0, backoff=BACKOFF, strategy=strategy)
    for delay in (1, 2, 4):
        await settle()
        troupe.clock.advance(delay)
        await settle()
    box.failure = None
    troupe.clock.advance(8)
    await settle()
    assert [record.levelname for record in log.records] == ["WARNING", "INFO"]
    assert log.records[1].message == "supervisor root: all children work again, after 15.0 s"


async def test_success_makes_the_next_delay_a_short_one(troupe: Troupe, box: Box) -> None:
    box.failure = StoreUnavailable("the server is down")
    await troupe.supervise(client(box), intensity=0, backoff=BACKOFF)
    for delay in (1, 2, 4):
        await settle()
        troupe.clock.advance(delay)
    box.failure = None
    await settle()
    box.failure = StoreUnavailable("again")
    troupe.tell("client", "try")
    await settle()
    assert troupe.clock.delays() == [1]


async def test_a_defect_counts_and_is_told_in_full(troupe: Troupe, box: Box, log) -> None:
    box.failure = ZeroDivisionError("a defect")
    await troupe.supervise(client(box), intensity=1, backoff=BACKOFF)
    await settle()
    troupe.clock.advance(1)
    assert (await troupe.end()).reason == "shutdown"
    assert sum(record.exc_info is not None for record in log.records) == 2


async def test_a_kill_counts(troupe: Troupe, box: Box) -> None:
    await troupe.supervise(client(box), intensity=0, backoff=BACKOFF)
    troupe.system.registry.get("client").kill()
    assert (await troupe.end()).reason == "shutdown"


async def test_one_outage_of_several_children_begins_and_ends_once(troupe: Troupe, box: Box, log) -> None:
    box.failure = StoreUnavailable("the server is down")
    await troupe.supervise(client(box, "a"), client(box, "b"), client(box, "c"), intensity=0, backoff=BACKOFF)
    await settle()
    assert await troupe.ask(TerminateChild("c"))
    box.failure = None
    troupe.clock.advance(1)
    await settle()
    assert [record.levelname for record in log.records] == ["WARNING", "INFO"]
    assert [child.restarts for child in reversed(await troupe.ask(WhichChildren()))] == [1, 1, 1]


def test_a_child_that_has_nothing_to_do_does_not_hide_the_next_outage(log) -> None:
    outage = Outage("supervisor x")
    outage.failed("idle", "idle", StoreUnavailable("1"), 0)
    outage.failed("other", "other", StoreUnavailable("2"), 61)
    outage.succeeded("other", 63)
    outage.succeeded("idle", 64)
    assert [record.message.partition(";")[0] for record in log.records] == [
        "supervisor x: child 'idle' cannot work: 1 (StoreUnavailable)",
        "supervisor x: child 'other' cannot work: 2 (StoreUnavailable)",
        "supervisor x: all children work again, after 2.0 s",
    ]


async def test_an_actor_without_a_supervisor_reports_to_nobody(troupe: Troupe, box: Box) -> None:
    client = troupe.system.spawn(Client, box)
    await settle()
    assert (box.tries, client.is_alive()) == (1, True)
