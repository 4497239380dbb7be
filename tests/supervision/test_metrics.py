"""From measurements to the exposition."""

import shutil
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from callboard.actors.batches.metrics import BatchPollingMetrics
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.breaker import BreakerState
from callboard.actors.dead_letters import DeadLetterReason
from callboard.actors.jobs.retention import Pruned
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import ClaimedJob, QueueControl, QueueDepth, RequestsWaiting, StatusCount, StoreSummary
from callboard.actors.jobs.usage import QuotaUsage
from callboard.actors.ports import Telemetry
from callboard.actors.statistics import ActorClassStatistics, SystemStatistics
from callboard.supervision.leader_telemetry import LeaderTelemetry
from callboard.supervision.metric_list import FAMILIES, JOB_BUCKETS, LABEL_LIMIT, OTHER, MetricType
from callboard.supervision.metrics import PrometheusTelemetry

AT = datetime(2026, 1, 1, tzinfo=UTC)
STATISTICS = SystemStatistics(
    classes={
        "Claimer": ActorClassStatistics(
            started=3,
            stopped={"normal": 0, "shutdown": 1, "error": 1, "killed": 0},
            handled=40,
            failed_asks=2,
            dropped=5,
            live=1,
            mailbox_depth=7,
            mailbox_depth_max=6,
        )
    },
    dead_letters={"stopped": 4},
)


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    return PrometheusTelemetry(version="1.2.3")


@pytest.fixture
def filled() -> PrometheusTelemetry:
    """A telemetry in which every family of the list has a value."""
    telemetry = PrometheusTelemetry(
        version="1.2.3",
        statistics=lambda: STATISTICS,
        jobs_running=lambda: {"embed": 2},
        readiness_state=lambda: "ready",
        leads=lambda: True,
    )
    telemetry.leader.election_ended("won")
    telemetry.leader.term_seen(7)
    telemetry.leader.leader_changed()
    telemetry.leader.lock_lost("expired")
    telemetry.leader.lock_acquired(AT)
    telemetry.leader.lock_proved(AT)
    cycle = BatchPollingMetrics(AT)
    for provider in ("anthropic", "anthropic", "openai"):
        cycle.found(provider)
    cycle.still_running("openai")
    cycle.ended("anthropic")
    cycle.items_updated("anthropic", 200)
    cycle.failed("openai", "results")
    cycle.unrecognized["openai"] += 1
    telemetry.batches.batches_polled(cycle, 1.5)
    telemetry.batches.batches_polled(BatchPollingMetrics(AT), 0.5)
    telemetry.batches.batches_polled(cycle, 1.5)
    telemetry.batches.batch_ended("anthropic", BatchStatus.COMPLETED)
    telemetry.batches.batch_items_updated("anthropic", ItemStatus.SUCCEEDED, 200)
    telemetry.batches.llm_requests_put_back("anthropic", 2)
    telemetry.batches.breaker_changed("openai", BreakerState.OPEN)
    telemetry.jobs_created("embed", "default", 3)
    telemetry.jobs_claimed([claimed("embed", "default", 0.2), claimed("embed", "default", 3)])
    telemetry.attempts_ended([(("embed", "default", Status.COMPLETED, Reason.SUCCEEDED), 0.5)])
    telemetry.attempts_ended([(("embed", "default", Status.PENDING, Reason.ERROR), 0.1)])
    telemetry.transition_refused("running", "completed", "stale")
    telemetry.job_rescued(Reason.LEASE_EXPIRED)
    telemetry.jobs_pruned(Pruned(jobs=3, results=2, partitions=1, batches=1))
    telemetry.lease_failed("lost")
    telemetry.statement("claim", 0.004)
    telemetry.supervisor_started("root")
    telemetry.children_changed("root", 3)
    telemetry.child_restarted("root", "one_for_one", "Claimer")
    telemetry.quota_checked("root", True)
    telemetry.quota_enforced("root", "abandoned_threads", "escalate")
    telemetry.rate_limited("queue")
    telemetry.process_started("1")
    telemetry.process_memory("1", 100 * 2**20)
    telemetry.process_recycled(True)
    telemetry.process_exited("1", "asked")
    telemetry.set_job_slots("default", 100)
    telemetry.set_job_threads(busy=1, idle=2, abandoned=0)
    telemetry.set_job_processes(busy=1, idle=1, memory_bytes=80_000_000)
    telemetry.job_process_ended("memory_limit")
    telemetry.callback_attempted("success", 0.2)
    telemetry.callbacks_put_off(3)
    telemetry.callback_hosts_silent(1)
    telemetry.store_summary_refreshed(
        StoreSummary(
            llm_requests=(RequestsWaiting("anthropic", 3, AT),),
            counts=(
                StatusCount("embed", "default", Status.PENDING, 4),
                StatusCount("embed", "default", Status.COMPLETED, 9),
            ),
            depths=(QueueDepth("default", 4, AT), QueueDepth("idle", 0, None)),
            controls=(QueueControl("default", paused=True), QueueControl("idle", draining=True)),
            quotas=(QuotaUsage("owner_running", 0.5, 0), QuotaUsage("queue_queued", 1.5, 2)),
        ),
        at=AT,
        duration_seconds=0.01,
    )
    return telemetry


def claimed(kind: str, queue: str, wait_seconds: float) -> ClaimedJob:
    return ClaimedJob(UUID(int=1), kind, queue, 1, 5, 1, "{}", None, None, None, None, wait_seconds=wait_seconds)


def exposition(telemetry: PrometheusTelemetry) -> str:
    return generate_latest(telemetry.registry).decode()


def samples(telemetry: PrometheusTelemetry, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name: label values, sorted by label name, to value."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition(telemetry))
        for sample in family.samples
        if sample.name == name
    }


def test_it_is_the_telemetry_that_the_kernel_asks_for(telemetry):
    port: Telemetry = telemetry
    methods = [name for name, member in vars(Telemetry).items() if isinstance(member, Callable) and name[0] != "_"]
    assert methods
    assert all(callable(getattr(port, name)) for name in methods)


def test_every_family_of_the_list_is_shown_as_listed(filled):
    shown = {family.name: family for family in filled.collect()}
    for family in FAMILIES:
        name = family.name.removesuffix("_total").removesuffix("_info")
        metric = shown.pop(name)
        assert metric.documentation == family.help
        assert metric.type == family.type
        ignored = {"le"} if family.type is MetricType.HISTOGRAM else set()
        for sample in metric.samples:
            assert set(sample.labels) - ignored == set(family.label_names)
        for label in family.labels:
            if label.values is not None:
                assert {sample.labels[label.name] for sample in metric.samples} <= set(label.values)
    assert not shown, "families that are not in the list"


def test_the_exposition_is_parsable_and_has_the_process_beside_it(filled):
    names = {family.name for family in text_string_to_metric_families(exposition(filled))}
    assert {"callboard_jobs_finished", "process_resident_memory_bytes", "python_info"} <= names


def test_promtool_finds_nothing_to_mend(filled):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH; test_metric_list.py checks the same rules")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=exposition(filled), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_attempts_become_outcomes_retries_and_transitions(filled):
    assert samples(filled, "callboard_jobs_claimed_total") == {("embed", "default"): 2}
    assert samples(filled, "callboard_jobs_finished_total") == {
        ("embed", "default", "cancelled"): 0,
        ("embed", "default", "completed"): 1,
        ("embed", "default", "failed"): 0,
    }
    assert samples(filled, "callboard_job_retries_total") == {("embed", "error"): 1}
    transitions = samples(filled, "callboard_job_transitions_total")
    assert transitions[("pending", "running")] == 2
    assert transitions[("running", "completed")] == 1
    assert transitions[("running", "pending")] == 1
    assert transitions[("running", "failed")] == 0
    assert samples(filled, "callboard_job_run_seconds_sum") == {("embed", "completed"): 0.5, ("embed", "pending"): 0.1}
    assert samples(filled, "callboard_job_wait_seconds_count") == {("default",): 2}


def test_actors_are_counted_by_class(filled):
    assert samples(filled, "callboard_actors_alive") == {("Claimer",): 1}
    assert samples(filled, "callboard_actor_stops_total")[("Claimer", "error")] == 1
    assert samples(filled, "callboard_actor_mailbox_depth_max") == {("Claimer",): 6}
    assert samples(filled, "callboard_actor_messages_rejected_total") == {("Claimer", "mailbox_full"): 5}
    assert samples(filled, "callboard_dead_letters_total") == {
        (reason,): 4 if reason == "stopped" else 0 for reason in get_args(DeadLetterReason)
    }


def test_what_retention_deletes_is_counted(filled):
    assert samples(filled, "callboard_retention_deleted_total") == {
        ("job",): 3,
        ("result",): 2,
        ("batch",): 1,
        ("history_partition",): 1,
    }


def test_the_summary_shows_what_is_left_to_do(filled):
    assert samples(filled, "callboard_jobs") == {("embed", "default", "pending"): 4}, "no jobs that have ended"
    assert samples(filled, "callboard_queue_depth") == {("default",): 4, ("idle",): 0}
    assert samples(filled, "callboard_queue_paused") == {("default",): 1, ("idle",): 0}
    assert samples(filled, "callboard_queue_oldest_job_timestamp_seconds") == {("default",): AT.timestamp()}
    assert samples(filled, "callboard_metrics_refresh_timestamp_seconds") == {("store_summary",): AT.timestamp()}


def test_a_failed_refresh_keeps_the_older_numbers(filled):
    filled.store_summary_failed()
    assert samples(filled, "callboard_queue_depth")[("default",)] == 4
    assert samples(filled, "callboard_metrics_refresh_errors_total") == {("store_summary",): 1}


def test_a_new_summary_replaces_the_older_one(filled):
    filled.store_summary_refreshed(StoreSummary(), at=AT, duration_seconds=0)
    assert samples(filled, "callboard_queue_depth") == {}


def test_counters_known_in_advance_start_at_zero(telemetry):
    assert samples(telemetry, "callboard_job_lease_failures_total") == {("error",): 0, ("lost",): 0}
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 0}
    assert set(samples(telemetry, "callboard_metrics_label_overflow_total").values()) == {0}


def test_supervisors_come_and_go(filled):
    filled.supervisor_started("workers")
    filled.supervisor_gave_up("workers")
    filled.supervisor_stopped("workers")
    assert samples(filled, "callboard_supervisors_alive") == {(): 1}
    assert samples(filled, "callboard_supervisor_children") == {("root",): 3, ("workers",): 0}
    assert samples(filled, "callboard_supervisor_restart_limit_exceeded_total") == {("root",): 0, ("workers",): 1}
    assert samples(filled, "callboard_supervisor_restarts_total") == {
        (strategy, supervisor): int((strategy, supervisor) == ("one_for_one", "root"))
        for strategy in ("one_for_all", "one_for_one", "rest_for_one")
        for supervisor in ("root", "workers")
    }
    assert samples(filled, "callboard_actor_restarts_total") == {("Claimer",): 1}


def test_quotas_are_counted(filled):
    filled.quota_checked("q", True)
    filled.quota_checked("q", False)
    filled.quota_enforced("q", "mailbox_messages", "stop_child")
    assert samples(filled, "callboard_quota_checks_total") == {
        ("allowed", "root"): 1,
        ("allowed", "q"): 1,
        ("denied", "q"): 1,
    }
    assert samples(filled, "callboard_quota_actions_total") == {
        ("escalate", "root", "abandoned_threads"): 1,
        ("stop_child", "q", "mailbox_messages"): 1,
    }
    filled.rate_limited("owner")
    filled.rate_limited("owner")
    assert samples(filled, "callboard_rate_limited_total") == {("queue",): 1, ("owner",): 2}
    assert samples(filled, "callboard_quota_usage_max_ratio") == {("owner_running",): 0.5, ("queue_queued",): 1.5}
    assert samples(filled, "callboard_quota_tenants_at_limit") == {("owner_running",): 0, ("queue_queued",): 2}


def test_readiness_is_one_hot(filled):
    states = samples(filled, "callboard_readiness_state")
    assert [state for state, value in states.items() if value == 1] == [("ready",)]
    assert len(states) == 4


def test_names_beyond_the_limit_are_folded_and_counted(telemetry):
    for number in range(LABEL_LIMIT + 20):
        telemetry.jobs_created(f"kind{number}", "default", 1)
        telemetry.attempts_ended([((f"kind{number}", "default", Status.COMPLETED, Reason.SUCCEEDED), 1)])
    created = samples(telemetry, "callboard_jobs_created_total")
    assert len(created) == LABEL_LIMIT + 1
    assert created[(OTHER, "default")] == 20
    assert sum(created.values()) == LABEL_LIMIT + 20
    assert samples(telemetry, "callboard_jobs_finished_total")[(OTHER, "default", "completed")] == 20
    assert samples(telemetry, "callboard_metrics_label_overflow_total")[("kind",)] == 40


def test_a_value_outside_a_closed_label_is_folded(telemetry):
    telemetry.lease_failed("connection to 10.0.0.1 refused")
    assert samples(telemetry, "callboard_job_lease_failures_total")[(OTHER,)] == 1


@given(st.lists(st.floats(0, 1e6) | st.sampled_from(JOB_BUCKETS), min_size=1, max_size=30))
def test_histograms_are_cumulative_and_bounds_are_inclusive(values):
    telemetry = PrometheusTelemetry(version="1")
    for value in values:
        telemetry.attempts_ended([(("embed", "default", Status.COMPLETED, Reason.SUCCEEDED), value)])
    buckets = {
        float(bound): count for (_, bound, _), count in samples(telemetry, "callboard_job_run_seconds_bucket").items()
    }
    for bound, count in buckets.items():
        assert count == sum(value <= bound for value in values)
    assert all(earlier <= later for earlier, later in pairwise(buckets.values()))
    assert samples(telemetry, "callboard_job_run_seconds_count") == {("embed", "completed"): len(values)}


def test_measuring_and_scraping_from_many_threads_loses_nothing(telemetry):
    def measure() -> None:
        for number in range(500):
            telemetry.attempts_ended([((f"kind{number % 7}", "default", Status.FAILED, Reason.TIMEOUT), 1)])
            telemetry.statement("claim", 0.001)

    threads = [threading.Thread(target=measure) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        exposition(telemetry)
    for thread in threads:
        thread.join()
    assert sum(samples(telemetry, "callboard_job_run_seconds_count").values()) == 2000
    assert samples(telemetry, "callboard_db_query_seconds_count") == {("claim",): 2000}


def test_only_the_leader_shows_what_was_read_from_the_database():
    leads = True
    telemetry = PrometheusTelemetry(version="1", leads=lambda: leads)
    summary = StoreSummary(depths=(QueueDepth("default", 4, AT),))
    telemetry.store_summary_refreshed(summary, at=AT, duration_seconds=0)
    assert samples(telemetry, "callboard_queue_depth") == {("default",): 4}
    assert samples(telemetry, "callboard_leader_is_leader") == {("leader",): 1}
    leads = False
    assert samples(telemetry, "callboard_queue_depth") == {}
    assert samples(telemetry, "callboard_metrics_refresh_timestamp_seconds") == {}
    assert samples(telemetry, "callboard_leader_is_leader") == {("leader",): 0}


def test_what_the_leader_measures_is_shown_and_the_moments_go_with_the_lock():
    telemetry = PrometheusTelemetry(version="1", leads=lambda: False)
    elections = {("leader", outcome): 0 for outcome in ("error", "lost", "won")}
    assert samples(telemetry, "callboard_leader_elections_total") == elections
    assert samples(telemetry, "callboard_leader_term") == {}
    telemetry.leader.term_seen(3)
    telemetry.leader.election_ended("lost")
    telemetry.leader.lock_acquired(AT)
    assert samples(telemetry, "callboard_leader_term") == {("leader",): 3}
    assert samples(telemetry, "callboard_leader_elections_total")[("leader", "lost")] == 1
    assert samples(telemetry, "callboard_leader_lock_acquired_timestamp_seconds") == {("leader",): AT.timestamp()}
    telemetry.leader.lock_lost("resigned")
    assert samples(telemetry, "callboard_leader_lock_acquired_timestamp_seconds") == {}
    assert samples(telemetry, "callboard_leader_lock_renewed_timestamp_seconds") == {}
    assert samples(telemetry, "callboard_leader_lock_lost_total")[("leader", "resigned")] == 1


def test_the_leader_telemetry_is_the_one_that_the_actor_wants():
    telemetry: LeaderTelemetry = PrometheusTelemetry(version="1", leads=lambda: False).leader
    assert telemetry is not None


def test_the_last_cycle_of_polling_is_shown_by_provider(filled: PrometheusTelemetry) -> None:
    def value(name: str, **labels: str) -> float | None:
        return filled.registry.get_sample_value(f"callboard_{name}", labels)

    assert value("batch_poll_start_timestamp_seconds") == AT.timestamp()
    assert value("batch_poll_batches", provider="anthropic") == 2
    assert value("batch_poll_running_batches", provider="openai") == 1
    assert value("batch_poll_running_batches", provider="anthropic") == 0
    assert value("batch_poll_completed_batches", provider="anthropic") == 1
    assert value("batch_poll_updated_items", provider="anthropic") == 200
    assert value("batch_poll_last_success_timestamp_seconds") == AT.timestamp() + 0.5
    outcomes = {outcome: value("batch_poll_cycles_total", outcome=outcome) for outcome in ("ok", "partial", "error")}
    assert outcomes == {"ok": 1, "partial": 2, "error": 0}
    assert value("batch_poll_errors_total", provider="openai", stage="results") == 2
    assert value("batches_finished_total", provider="anthropic", status="failed") == 0
    states = {state: value("circuit_breaker_state", breaker="openai", state=state) for state in BreakerState}
    assert states == {"closed": 0, "open": 1, "half_open": 0}
