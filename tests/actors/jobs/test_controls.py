"""Which way a claim takes to a queue."""

from callboard.actors.jobs.controls import Controls
from callboard.actors.jobs.limits import Limit, Limits, LimitScope
from callboard.actors.jobs.types import QueueControl, QueueDemand


def test_paused_queues_are_left_out_and_limited_ones_go_their_own_way() -> None:
    controls = Controls(
        [QueueControl("paused", paused=True), QueueControl("draining", draining=True)],
        Limits([Limit(LimitScope.QUEUE, "limited", max_running=1)]),
        ["keyed"],
    )
    names = ["plain", "paused", "draining", "limited", "keyed"]
    plain, limited = controls.route([*(QueueDemand(name, 1) for name in names), QueueDemand("busy", 0)])
    assert [demand.queue for demand in plain] == ["plain", "draining"]
    assert [demand.queue for demand in limited] == ["limited", "keyed"]


def test_nothing_is_set_on_queues_that_nobody_named() -> None:
    controls = Controls()
    assert not controls.is_paused("q")
    assert not controls.is_draining("q")
    assert controls.route([QueueDemand("q", 3)]) == ([QueueDemand("q", 3)], [])
