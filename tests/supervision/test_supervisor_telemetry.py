"""What supervisors measure."""

from callboard.supervision.metrics import PrometheusTelemetry
from tests.supervision.test_metrics import samples


async def test_a_killed_supervisor_is_no_longer_counted(troupe):
    telemetry = PrometheusTelemetry(version="1")
    await troupe.supervise(troupe.player("a"), telemetry=telemetry)
    troupe.supervisor.kill()
    await troupe.end()
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 0}


async def test_restarts_and_giving_up_are_measured(troupe):
    telemetry = PrometheusTelemetry(version="1")
    await troupe.supervise(troupe.player("a"), troupe.player("b"), name="stage", telemetry=telemetry)
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 1}
    assert samples(telemetry, "callboard_supervisor_children") == {("stage",): 2}
    await troupe.crash("a")
    assert samples(telemetry, "callboard_supervisor_restarts_total")["one_for_one", "stage"] == 1
    assert samples(telemetry, "callboard_actor_restarts_total") == {("Player",): 1}
    troupe.tell("b", "crash")
    await troupe.end()
    assert samples(telemetry, "callboard_supervisor_restart_limit_exceeded_total") == {("stage",): 1}
    assert samples(telemetry, "callboard_supervisor_children") == {("stage",): 0}
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 0}
