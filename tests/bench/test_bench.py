"""The benchmarks run, check themselves and write the documented keys. How fast they are is nobody's business here."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import failover
from bench.__main__ import main
from bench.check import BenchmarkInvalid, require
from bench.report import Goal, median_of, ratio
from bench.server import running_server
from tests.support.postgres import Server

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"

SURROUNDINGS = {"benchmark", "jobs", "rounds", "machine", "server", "figures"}
COMPARED = {"baseline", "ratio_to_baseline", "measurements", "goals"}


@pytest.fixture(autouse=True)
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that count backends which are just ending: nobody looks at them here."""
    monkeypatch.setattr("bench.server._SETTLE_SECONDS", 0.0)


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run the command; return what it wrote as JSON."""
    file = tmp_path / "report.json"
    result = CliRunner().invoke(main, [*arguments, "--json", str(file)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert arguments[0] in result.output
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def leaves(value: Any) -> set[str]:
    """Return the names of the figures in a report."""
    if isinstance(value, dict):
        return {name for name, inner in value.items() if not isinstance(inner, dict)} | {
            name for inner in value.values() for name in leaves(inner)
        }
    return set()


def documented(names: set[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = sorted(name for name in names if f"`{name}`" not in page)
    assert not missing, f"docs/bench.md does not explain {missing}"


@pytest.mark.parametrize(("benchmark", "rounds"), [("drain", 2), ("spawn", 1), ("latency", 1)])
def test_a_benchmark_reports_what_is_documented(benchmark: str, rounds: int, server: Server, tmp_path: Path) -> None:
    report = run(tmp_path, benchmark, "--jobs", "20", "--rounds", str(rounds), "--database-url", server.url)
    assert set(report) == SURROUNDINGS | COMPARED
    assert (report["benchmark"], report["jobs"], report["rounds"]) == (benchmark, 20, rounds)
    assert {"fsync", "synchronous_commit", "shared_buffers", "server_version", "commit_milliseconds"} <= set(
        report["server"]
    )
    assert {"cpu", "cores", "system", "python", "libraries", "load_average"} <= set(report["machine"])
    assert [len(taken) for taken in report["measurements"].values()] == [rounds, rounds]
    assert report["ratio_to_baseline"] > 0
    assert {goal["figure"] for goal in report["goals"]} <= set(report["figures"])
    documented(set(report) | set(report["figures"]) | set(report["baseline"]))
    left = server.connection.execute(
        "SELECT count(*) FROM pg_database WHERE datname LIKE 'callboard_bench_%'"
    ).fetchone()
    assert left == (0,)


@pytest.mark.parametrize("benchmark", ["actors", "processes"])
def test_a_benchmark_without_a_server_reports_what_is_documented(benchmark: str, tmp_path: Path) -> None:
    report = run(tmp_path, benchmark, "--jobs", "200")
    assert set(report) == SURROUNDINGS
    documented(leaves(report["figures"]) - {"count"})


FAILOVER_FIGURES = ("p50_seconds", "p99_seconds", "worst_seconds", "rounds", "disturbed_rounds")


@pytest.mark.processes
@pytest.mark.chaos
def test_failover_reports_what_is_documented(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the five: the others take the trust window's time."""
    documented({f"{name}_{figure}" for name in failover.FAILURES for figure in FAILOVER_FIGURES})
    monkeypatch.setattr(failover, "FAILURES", {"kill": failover.kill})
    report = run(tmp_path, "failover", "--rounds", "3", "--clusters", "2", "--database-url", server.url)
    assert set(report) == SURROUNDINGS | {"measurements", "goals", "cut_by"}
    assert set(report["figures"]) == {f"kill_{figure}" for figure in FAILOVER_FIGURES}
    assert report["figures"]["kill_rounds"] == 3
    assert [len(taken) for taken in report["measurements"].values()] == [3]
    assert [goal["figure"] for goal in report["goals"]] == ["kill_worst_seconds"]


def test_the_figures_of_a_failure_are_exact() -> None:
    rounds = [failover.Round(float(number), disturbed=number == 7) for number in range(200, 0, -1)]
    assert failover.summarize("kill", rounds) == {
        "kill_p50_seconds": 100.5,
        "kill_p99_seconds": 198.0,
        "kill_worst_seconds": 200.0,
        "kill_rounds": 200,
        "kill_disturbed_rounds": 1,
    }
    assert failover.summarize("cut", rounds[:50])["cut_p99_seconds"] == 200.0


def test_a_soak_reports_what_is_documented(server: Server, tmp_path: Path) -> None:
    report = run(tmp_path, "soak", "--minutes", "0.05", "--rate", "20", "--database-url", server.url)
    assert set(report) == SURROUNDINGS | {"samples", "goals"}
    pinned = [sample["pinned"] for sample in report["samples"]]
    assert pinned == [False] * 4 + [True] * 12 + [False] * 4
    assert report["figures"]["jobs_per_second"] > 0
    documented(set(report) | set(report["figures"]))


def test_a_figure_that_the_database_does_not_confirm_is_not_reported(database_url: str) -> None:
    require(database_url, jobs={}, history={})
    with pytest.raises(BenchmarkInvalid, match=r"jobs by status: \{\}, expected \{'completed': 1\}"):
        require(database_url, jobs={"completed": 1}, history={})


def test_a_given_server_is_used_as_it_is() -> None:
    with running_server("postgresql://somewhere/db") as url:
        assert url == "postgresql://somewhere/db"


def test_medians_and_ratios_are_taken_over_the_rounds() -> None:
    ours = [{"rate": 10.0, "cpu": 1.0}, {"rate": 30.0, "cpu": None}, {"rate": 20.0, "cpu": 1.0}]
    bare = [{"rate": 10.0}, {"rate": 10.0}, {"rate": 5.0}]
    assert median_of(ours) == {"rate": 20.0, "cpu": None}
    assert ratio(ours, bare, "rate") == 3.0


@pytest.mark.parametrize(("at_least", "reached"), [(True, [False, True, True]), (False, [True, True, False])])
def test_goals_have_a_direction(at_least: bool, reached: list[bool]) -> None:
    goal = Goal("figure", "label", 5.0, at_least)
    assert [goal.reached(value) for value in (4.0, 5.0, 6.0)] == reached
