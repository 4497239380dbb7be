"""Rule B8: delays before restarts, an extension."""

from callboard.supervision.backoff import Backoff
from callboard.supervision.supervisor_messages import Done, TerminateChild


async def test_B8_with_backoff_restarts_wait_longer_and_longer(troupe):
    drawn = []

    def draw(shortest: float, longest: float) -> float:
        drawn.append((shortest, longest))
        return shortest

    backoff = Backoff(initial_seconds=1, max_seconds=5, jitter_ratio=0.5)
    await troupe.supervise(troupe.player("a"), troupe.player("b"), intensity=None, backoff=backoff, draw=draw)
    for delay in (1, 2, 4, 5, 5):
        starts = troupe.journal.entries.count("start a")
        troupe.tell("a", "crash")
        await troupe.journal.until("crash a", starts)
        assert await troupe.states() == {"a": "restarting", "b": "running"}
        assert troupe.clock.delays() == [delay]
        troupe.clock.advance(delay)
        await troupe.journal.until("start a", starts + 1)
        assert await troupe.states() == {"a": "running", "b": "running"}
    assert drawn == [(1, 1.5), (2, 3), (4, 6), (5, 7.5), (5, 7.5)]
    troupe.clock.advance(3)  # the mean of initial and maximum: the child has lived long enough
    troupe.tell("a", "crash")
    await troupe.journal.until("crash a", 6)
    await troupe.states()
    assert troupe.clock.delays() == [1]


async def test_B8_failed_tries_wait_too_and_count(troupe):
    ill = []
    backoff = Backoff(initial_seconds=1, max_seconds=4, jitter_ratio=0)
    await troupe.supervise(
        troupe.player("a", options={"fails_to_start": lambda: bool(ill)}),
        intensity=2,
        period_seconds=60,
        backoff=backoff,
    )
    ill.append(True)
    troupe.clock.advance(100)
    troupe.tell("a", "crash")
    await troupe.journal.until("crash a")
    await troupe.states()
    assert troupe.clock.delays() == [1]
    troupe.clock.advance(1)
    await troupe.journal.until("fail a")
    await troupe.states()
    await troupe.states()  # the first one may come before the supervisor's own word to try again
    assert troupe.clock.delays() == [2], "the wait is no life that would reset the backoff"
    troupe.clock.advance(2)
    assert (await troupe.end()).reason == "shutdown"


async def test_F6_terminating_a_child_that_waits_cancels_its_restart(troupe):
    await troupe.supervise(troupe.player("a"), backoff=Backoff(initial_seconds=1))
    troupe.tell("a", "crash")
    await troupe.journal.until("crash a")
    assert await troupe.states() == {"a": "restarting"}
    assert await troupe.ask(TerminateChild("a")) == Done()
    assert troupe.clock.timers == []
    assert await troupe.states() == {"a": "stopped"}
