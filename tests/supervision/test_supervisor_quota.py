"""Quotas kept by supervisors, static and dynamic."""

import asyncio
import threading
from typing import Any

import pytest

from callboard.actors.errors import InvalidSpecification, MailboxFull, QuotaExceeded
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.ending import KILLS
from callboard.supervision.quota import Limit, Quota
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import ChildStarted, Refused, StartChild, StartDynamicChild
from callboard.supervision.supervisor_telemetry import NoSupervisorTelemetry
from tests.supervision.theatre import PATIENCE_SECONDS, Player


class Slow(Player):
    """Handles one message until it is released; swallows so many cancellations."""

    def __init__(self, part: str, journal: Any, swallows: int = 0) -> None:
        super().__init__(part, journal)
        self.swallows = swallows

    async def on_receive(self, message: Any) -> None:
        self.journal.write(f"handle {self.part}")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.swallows == 0:
                    raise
                self.swallows -= 1


class Large(Player):
    """Says that it uses a lot."""

    memory_bytes = 0
    seconds = 0.0

    def resources(self) -> tuple[int, float]:
        return self.memory_bytes, self.seconds


class Counts(NoSupervisorTelemetry):
    def __init__(self) -> None:
        self.checks: list[tuple[str, bool]] = []
        self.actions: list[tuple[str, str, str]] = []

    def quota_checked(self, quota: str, allowed: bool) -> None:
        self.checks.append((quota, allowed))

    def quota_enforced(self, quota: str, resource: str, action: str) -> None:
        self.actions.append((quota, resource, action))


async def look(troupe: Any, times: int = 1) -> None:
    """Let the supervisor look at what is used."""
    for _ in range(times):
        await troupe.let_time_pass(1)
        if not troupe.supervisor.is_alive():
            return
        await troupe.count()


async def test_no_more_children_than_the_quota_allows(troupe):
    telemetry = Counts()
    await troupe.supervise(troupe.player("a"), quota=Quota("q", children=2), telemetry=telemetry)
    assert isinstance(await troupe.ask(StartChild(troupe.player("b"))), ChildStarted)
    refused = await troupe.ask(StartChild(troupe.player("c")))
    assert (refused.reason, await troupe.states()) == ("max_children", {"a": "running", "b": "running"})
    assert "quota 'q': children 3, and the limit is 2" in refused.message
    assert telemetry.checks == [("q", True), ("q", False)]
    assert telemetry.actions == [("q", "children", "refuse")]


async def test_no_supervisor_starts_with_more(troupe):
    with pytest.raises(InvalidSpecification, match="2 children: expected at most 1"):
        troupe.system.spawn(Supervisor, [troupe.player("a"), troupe.player("b")], quota=Quota("q", children=1))
    assert len(troupe.system.registry) == 0


async def test_a_dynamic_supervisor_counts_those_that_wait_for_their_restart(troupe):
    fails = False
    spec = ChildSpec("each", Player, ("each", troupe.journal), {"fails_to_start": lambda: fails})
    troupe.supervisor = troupe.system.spawn(DynamicSupervisor, spec, intensity=1000, quota=Quota("q", children=1))
    child = (await troupe.ask(StartDynamicChild())).ref
    assert (await troupe.ask(StartDynamicChild())).reason == "max_children"
    fails = True
    troupe.supervisor.suspend()
    ended = child.termination()
    child.tell("crash")
    await ended
    answers = [troupe.ask_now(StartDynamicChild()) for _ in range(2)]
    troupe.supervisor.resume()
    assert [(await answer).reason for answer in answers] == ["max_children", "max_children"]


async def test_a_full_mailbox_refuses(troupe):
    await troupe.supervise(troupe.player("a", Slow), quota=Quota("q", mailbox_messages=2))
    await troupe.journal.until("start a")
    troupe.tell("a", "first")
    await troupe.journal.until("handle a")
    troupe.tell("a", 1)
    troupe.tell("a", 2)
    with pytest.raises(MailboxFull):
        troupe.tell("a", 3)
    troupe.system.registry.get("a").kill()


async def test_a_full_mailbox_sheds_the_oldest(troupe):
    shedding = troupe.player("a", Slow, quota=Quota("own", mailbox_messages=Limit(2, "shed")))
    await troupe.supervise(shedding)
    troupe.tell("a", "first")
    await troupe.journal.until("handle a")
    for number in range(4):
        troupe.tell("a", number)
    assert troupe.system.registry.get("a").mailbox_depth == 2
    assert troupe.system.dead_letters.counts()["drop_oldest"] == 2
    troupe.system.registry.get("a").kill()


async def test_a_child_with_too_long_a_queue_is_stopped_and_restarted(troupe):
    telemetry = Counts()
    quota = Quota("q", mailbox_messages=Limit(1, "stop_child"))
    await troupe.supervise(troupe.player("a", Slow), troupe.player("b"), quota=quota, telemetry=telemetry)
    troupe.tell("a", "first")
    await troupe.journal.until("handle a")
    troupe.tell("a", 1)
    await look(troupe)
    assert troupe.journal.entries.count("start a") == 1
    troupe.tell("a", 2)
    await look(troupe)
    await troupe.journal.until("start a", 2)
    assert telemetry.actions == [("q", "mailbox_messages", "stop_child")]
    assert troupe.journal.entries.count("start b") == 1


async def test_a_message_that_takes_too_long_costs_the_child_its_life(troupe):
    await troupe.supervise(troupe.player("a", Slow), quota=Quota("q", message_seconds=5))
    troupe.tell("a", "hello")
    await troupe.journal.until("handle a")
    await look(troupe, 5)
    assert troupe.journal.entries.count("start a") == 1
    await look(troupe)
    await troupe.journal.until("start a", 2)


async def test_nor_does_one_survive_that_swallows_its_cancellation(troupe):
    await troupe.supervise(
        troupe.player("a", Slow, options={"swallows": KILLS}), quota=Quota("q", message_seconds=Limit(1, "stop_child"))
    )
    troupe.tell("a", "hello")
    await troupe.journal.until("handle a")
    await look(troupe, 2 + KILLS)
    await troupe.journal.until("start a", 2)
    assert troupe.system.abandoned == 1
    (task,) = (each for each in asyncio.all_tasks() if "_contained" in repr(each))
    task.cancel()
    await asyncio.wait((task,))


async def test_a_handler_on_a_thread_is_seen_too(troupe):
    begun, released = threading.Event(), threading.Event()

    class Hanging(Player):
        dispatcher = "pool"

        def on_receive(self, message: object) -> None:
            begun.set()
            released.wait(PATIENCE_SECONDS)

    await troupe.supervise(troupe.player("a", Hanging), quota=Quota("q", message_seconds=1, abandoned_threads=0))
    try:
        troupe.tell("a", "hang")
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        await look(troupe, 2)
        await troupe.journal.until("start a", 2)
        assert (await troupe.ask(StartChild(troupe.player("b")))).reason == "quota"  # a thread hangs about
    finally:
        released.set()


async def test_while_too_many_handlers_are_under_way_no_child_is_started(troupe):
    await troupe.supervise(troupe.player("a", Slow), quota=Quota("q", handlers_in_flight=1))
    assert isinstance(await troupe.ask(StartChild(troupe.player("b"))), ChildStarted)
    troupe.tell("a", "hello")
    await troupe.journal.until("handle a")
    refused = await troupe.ask(StartChild(troupe.player("c")))
    assert refused == Refused("quota", message=refused.message)
    assert "handlers_in_flight 2, and the limit is 1" in refused.message
    troupe.system.registry.get("a").kill()


async def test_escalating_ends_the_supervisor_and_says_why(troupe):
    telemetry = Counts()
    threads = 0
    await troupe.supervise(
        troupe.player("a"),
        quota=Quota("q", abandoned_threads=Limit(3, "escalate")),
        abandoned_threads=lambda: threads,
        telemetry=telemetry,
    )
    threads = 3
    await look(troupe)
    assert troupe.supervisor.is_alive()
    threads = 4
    await look(troupe)
    end = await troupe.end()
    assert (end.reason, type(end.exception)) == ("shutdown", QuotaExceeded)
    assert "abandoned_threads 4, and the limit is 3" in str(end.exception)
    assert troupe.journal.entries == ["start a", "stop a"]
    assert telemetry.actions == [("q", "abandoned_threads", "escalate")]


async def test_memory_and_processor_time_of_a_child_that_knows_them(troupe):
    quota = Quota("q", memory_bytes=100, cpu_ratio=0.5)
    await troupe.supervise(troupe.player("a", Large), troupe.player("b", Large), quota=quota, intensity=5)
    find = troupe.system.registry.get
    find("a")._actor_weakref().memory_bytes = 100
    await look(troupe)
    find("b")._actor_weakref().seconds = 0.5
    await look(troupe)
    assert troupe.journal.entries == ["start a", "start b"]
    find("a")._actor_weakref().memory_bytes = 101
    find("b")._actor_weakref().seconds = 1.2
    await look(troupe)
    await troupe.journal.until("start b", 2)
    assert troupe.journal.entries.count("start a") == 2


async def test_without_quotas_nobody_looks(troupe):
    await troupe.supervise(troupe.player("a"))
    assert troupe.clock.timers == []
