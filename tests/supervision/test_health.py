"""Probes: what each one may and may not depend on."""

from dataclasses import replace

import pytest

from callboard.actors.errors import ConfigurationError
from callboard.supervision.health import (
    HealthRegistry,
    HealthState,
    liveness,
    readiness,
    readiness_state,
    startup,
)
from callboard.testing import FakeClock

READY = HealthState(
    hang_limit_seconds=15,
    heartbeat_age_seconds=0.5,
    store_check_limit_seconds=10,
    store_check_age_seconds=1,
    started=True,
)


def test_a_ready_process_passes_every_probe():
    assert liveness(READY).ok
    assert startup(READY).ok
    assert readiness(READY).ok
    assert readiness_state(READY) == "ready"


@pytest.mark.parametrize(
    ("change", "alive", "state", "reason"),
    [
        ({"started": False}, True, "starting", "starting"),
        ({"draining": True}, True, "draining", "draining"),
        ({"store_error": "unreachable: connection refused"}, True, "degraded", "store: unreachable"),
        ({"store_check_age_seconds": None}, True, "degraded", "store: not checked yet"),
        ({"store_check_age_seconds": 10}, True, "degraded", "store: last checked 10.0 s ago"),
        ({"failing": {"listener": "reconnecting"}}, True, "degraded", "listener: reconnecting"),
        ({"heartbeat_age_seconds": 15}, False, "degraded", "silent for 15.0 s"),
        ({"gave_up": "reached_max_restart_intensity"}, False, "degraded", "root supervisor gave up"),
    ],
)
def test_each_fault_shows_where_it_belongs(change, alive, state, reason):
    changed = replace(READY, **change)
    assert liveness(changed).ok is alive
    assert not readiness(changed).ok
    assert readiness_state(changed) == state
    assert any(reason in given for given in readiness(changed).reasons)


def test_a_heartbeat_just_within_the_hang_limit_is_alive():
    assert liveness(replace(READY, heartbeat_age_seconds=14.999)).ok


def test_the_registry_follows_a_life(clock):
    health = HealthRegistry(clock, hang_limit_seconds=15, store_check_limit_seconds=10)
    assert health.readiness_state() == "starting"
    health.store_checked()
    health.startup_finished()
    assert health.readiness_state() == "ready"
    clock.advance(10)
    assert health.readiness_state() == "degraded", "the check of the store is too old"
    health.store_checked("unreachable")
    assert readiness(health.state()).reasons == ("store: unreachable",)
    health.store_checked()
    clock.advance(5)
    assert not liveness(health.state()).ok, "no heartbeat for the hang limit"
    health.beat()
    assert liveness(health.state()).ok
    health.draining()
    assert health.readiness_state() == "draining"
    assert liveness(health.state()).ok


def test_parts_fail_and_recover_each_for_itself():
    health = HealthRegistry(FakeClock(), hang_limit_seconds=15)
    health.startup_finished()
    health.store_checked()
    health.part_failing("listener", "no connection")
    health.part_failing("claimer", "stopped")
    assert readiness(health.state()).reasons == ("claimer: stopped", "listener: no connection")
    health.part_working("listener")
    health.part_working("listener")
    assert readiness(health.state()).reasons == ("claimer: stopped",)
    health.part_working("claimer")
    assert readiness(health.state()).ok


def test_the_root_giving_up_is_not_alive():
    health = HealthRegistry(FakeClock(), hang_limit_seconds=15)
    health.gave_up("reached_max_restart_intensity")
    assert liveness(health.state()).reasons == ("the root supervisor gave up: reached_max_restart_intensity",)


@pytest.mark.parametrize("name", ["hang_limit_seconds", "store_check_limit_seconds"])
def test_limits_must_be_positive(name):
    with pytest.raises(ConfigurationError, match=f"{name} 0: expected seconds"):
        HealthRegistry(FakeClock(), **{"hang_limit_seconds": 15, name: 0})


def test_a_process_without_a_store_is_ready_once_it_has_started(clock) -> None:
    health = HealthRegistry(clock, hang_limit_seconds=10, uses_store=False)
    assert not readiness(health.state()).ok
    health.startup_finished()
    assert readiness(health.state()).ok
    health.part_failing("process 2", "it is being started")
    assert readiness(health.state()).reasons == ("process 2: it is being started",)
