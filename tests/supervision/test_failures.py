"""Where Python is not Erlang (docs/supervision.md): exit reasons, failed asks, and exceptions that are no errors."""

import asyncio
import threading

import pytest

from callboard.actors.actor import EventActor
from callboard.actors.control import Ignore, Stop
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor_messages import ChildStarted, Done, StartChild, TerminateChild
from tests.supervision.theatre import PATIENCE_SECONDS, Player


class Raises(EventActor):
    """Raises what it receives, at once or from a coroutine; calls what can be called."""

    def on_receive(self, message):
        if callable(message):
            return message(self)
        raise message


class RaisesInCoroutine(Raises):
    async def on_receive(self, message):
        await asyncio.sleep(0)
        return super().on_receive(message)


class RaisesOnPool(Raises):
    dispatcher = "pool"


class RaisesInCoroutineOnPool(RaisesInCoroutine):
    dispatcher = "pool"


KINDS = [Raises, RaisesInCoroutine, RaisesOnPool, RaisesInCoroutineOnPool]

REASONS = [
    (lambda actor: actor.stop(), "normal", False),
    (lambda actor: actor.context.exit(), "shutdown", False),
    (lambda actor: actor.actor_ref.shutdown(), "shutdown", False),
    (Stop("the play is over"), "the play is over", False),
    (lambda actor: actor.actor_ref.kill(), "killed", True),
    (ValueError("forgot the text"), "error", True),
    (Ignore(), "error", True),
    (asyncio.CancelledError(), "error", True),
    (SystemExit(3), "error", True),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("message", "reason", "abnormal"), REASONS, ids=[f"{row[1]} {row[0]!r:.12}" for row in REASONS]
)
async def test_every_end_has_a_reason_that_is_a_crash_or_none(troupe, kind, message, reason, abnormal):
    await troupe.supervise(ChildSpec("a", kind, restart="transient"), troupe.player("b"))
    end = await troupe.ended((await troupe.refs())["a"], message)
    assert (end.reason, end.abnormal) == (reason, abnormal)
    assert type(end.exception) is (type(message) if reason == "error" else type(None))
    assert await troupe.states() == {"a": "running" if abnormal else "stopped", "b": "running"}


@pytest.mark.parametrize("kind", KINDS)
async def test_system_exit_while_asked_is_a_crash_of_the_child_alone(troupe, kind):
    await troupe.supervise(ChildSpec("a", kind), troupe.player("b"))
    first = await troupe.refs()
    with pytest.raises(Exception, match="SystemExit"):
        await first["a"].ask(SystemExit(3), block=False)
    await first["a"].termination()
    assert await troupe.states() == {"a": "running", "b": "running"}
    assert (await troupe.refs())["b"] is first["b"]


async def test_keyboard_interrupt_ends_everything_supervised_or_not(troupe):
    await troupe.supervise(ChildSpec("a", Raises), troupe.player("b"))
    other = troupe.system.spawn(Player, "x", troupe.journal)
    troupe.tell("a", KeyboardInterrupt())
    assert (await troupe.end()).reason == "shutdown"
    assert (await other.termination()).reason == "shutdown"


async def test_system_exit_of_an_actor_without_a_parent_ends_everything(troupe):
    await troupe.supervise(troupe.player("b"))
    troupe.system.spawn(Raises).tell(SystemExit(3))
    assert (await troupe.end()).reason == "shutdown"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_ask_is_no_crash_unless_the_class_says_so(troupe, kind):
    class Fragile(kind):
        reply_errors = (LookupError,)

    await troupe.supervise(ChildSpec("a", kind), ChildSpec("b", Fragile))
    first = await troupe.refs()
    for part, error, lives_on in (("a", ValueError(), True), ("b", KeyError(), True), ("b", ValueError(), False)):
        with pytest.raises(type(error)):
            await first[part].ask(error, block=False)
        if not lives_on:
            assert (await first[part].termination()).exception is error
        await troupe.count()
        assert (await troupe.refs())[part] is first[part] if lives_on else first[part] is not None
    assert (await troupe.refs())["b"] is not first["b"], "restarted"
    assert await troupe.states() == {"a": "running", "b": "running"}


async def test_what_an_abandoned_thread_does_later_comes_to_nothing(troupe):
    begun, released, did = threading.Event(), threading.Event(), threading.Event()

    class Hanging(Player):
        dispatcher = "pool"

        def on_receive(self, message):
            begun.set()
            released.wait(PATIENCE_SECONDS)
            try:
                self.context.spawn(Raises, name="orphan")
            finally:
                self.actor_ref.send("to myself")
                did.set()
            return "too late"

    await troupe.supervise()
    started = await troupe.ask(StartChild(troupe.player("a", Hanging, restart="temporary")))
    assert isinstance(started, ChildStarted)
    answer = started.ref.ask("hang", block=False)
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    terminated = troupe.ask_now(TerminateChild("a"))
    await troupe.let_time_pass(5)
    assert await terminated == Done()
    with pytest.raises(Exception, match="was killed while handling the message"):
        await answer
    released.set()
    await asyncio.to_thread(did.wait, PATIENCE_SECONDS)
    assert troupe.system.registry.get("orphan") is None
    assert await troupe.states() == {}
