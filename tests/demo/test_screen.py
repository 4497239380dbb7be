"""What a run looks like."""

import pytest

from callboard import Reason, Status
from callboard.demo.expected import Totals
from callboard.demo.library import ModuleSize
from callboard.demo.plan import make_plan
from callboard.demo.report import Report, make_report
from callboard.demo.screen import Screen

from .histories import make_history, make_record

PLAN = make_plan(1)
TOTALS = Totals(1, 2, "abc", 1, 3, 4, 5, (ModuleSize(PLAN.modules[0], 3, 4, 5),))


def report(differences: tuple[str, ...] = (), *reasons: Reason) -> Report:
    return make_report(
        [make_record(kind=kind) for kind in PLAN.jobs] + [make_record(Status.FAILED, 3)],
        histories=[make_history(*reasons)],
        differences=differences,
        run=PLAN.run,
        library=PLAN.folder,
        metrics_url="http://127.0.0.1:1",
        metrics_samples=7,
        refusal="path: got int",
        batch_items=200,
        totals=TOTALS,
    )


def test_a_report_counts_jobs_by_kind() -> None:
    made = report()
    parse = made.kinds[0]
    assert (made.ok, made.jobs, made.attempts, made.seconds, made.jobs_per_second) == (True, 6, 8, 2.0, 3.0)
    assert parse.statuses == {Status.COMPLETED: 1, Status.FAILED: 1}
    assert (parse.executor, parse.jobs, parse.attempts, parse.jobs_per_second) == ("process", 2, 4, 1.0)


def test_jobs_that_have_not_ended_have_no_rate() -> None:
    record = make_record(Status.RUNNING, kind=next(iter(PLAN.jobs)))
    made = make_report(
        [record],
        histories=[],
        differences=["is running"],
        run=PLAN.run,
        library=PLAN.folder,
        metrics_url=None,
        metrics_samples=0,
        refusal=None,
        batch_items=0,
        totals=TOTALS,
    )
    assert (made.ok, made.seconds, made.jobs_per_second) == (False, 0.0, 0.0)


def test_the_tables_fit_on_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Screen().report(report())
    lines = capsys.readouterr().out.splitlines()
    kinds = lines[1]
    assert kinds.split() == ["Kind", "Runs", "in", "Jobs", "Completed", "Failed", "Cancelled", "Attempts", "Jobs/s"]
    assert len(kinds) <= 80
    assert any(line.split() == ["all", "6", "5", "1", "0", "8", "3"] for line in lines)
    assert "…" not in "".join(lines)


def test_attempts_that_died_with_their_worker_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().report(report((), Reason.CLAIMED, Reason.LEASE_EXPIRED, Reason.CLAIMED, Reason.LEASE_EXPIRED))
    assert "Interrupted: 2 attempts, by the death of their worker" in capsys.readouterr().out
    Screen().report(report((), Reason.CLAIMED, Reason.SUCCEEDED))
    assert "Interrupted" not in capsys.readouterr().out


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_database_can_have_more_workers(capsys: pytest.CaptureFixture[str], shared: bool) -> None:
    Screen().opening(PLAN, "http://127.0.0.1:1", shared=shared)
    shown = capsys.readouterr().out
    assert "http://127.0.0.1:1/metrics" in shown
    assert ("callboard worker callboard.demo.jobs --queue demo-" in shown) is shared


def test_differences_are_listed_until_there_are_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().report(report(tuple(f"[bold]difference[/] {number}" for number in range(25))))
    shown = capsys.readouterr().out
    assert "25 things are not as they should be" in shown
    assert "[bold]difference[/] 19" in shown
    assert "difference[/] 20" not in shown
    assert "and 5 more" in shown
    assert "ended as they should" not in shown


def test_bars_show_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Screen().bars(PLAN) as bars:
        bars.update(PLAN.jobs)
    assert capsys.readouterr().out.strip() == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen()
    with screen.busy("Checking"), screen.bars(PLAN) as bars:
        bars.update(PLAN.jobs)
    shown = capsys.readouterr().out
    for kind, jobs in PLAN.jobs.items():
        assert kind.rpartition(".")[2] in shown
        assert f"{jobs}/{jobs}" in shown
