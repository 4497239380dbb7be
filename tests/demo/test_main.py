"""The whole demo, over two packages of the library."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from callboard import ConfigurationError, SchemaMissing, Settings
from callboard.demo import main, spawn
from callboard.demo.plan import make_plan
from tests.support.waiting import wait_until

PACKAGES = 2
COMMAND = [sys.executable, "-m", "callboard.cli", "demo"]


def quick(database_url: str) -> Settings:
    return Settings(database_url=database_url, pg_pool_size=4, poll_interval_seconds=0.1)


def test_a_run_shows_its_jobs_and_passes_its_own_checks(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(quick(database_url), package_limit=PACKAGES) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert re.search(r"Scrape it while it runs: http://127\.0\.0\.1:\d+/metrics", shown.out)
    assert re.search(r"parse_module +process +\d+ +\d+ +0 +0", shown.out)
    assert re.search(r"wait_for_change +async +2 +0 +1 +1 +3", shown.out)
    assert "Refused, and nothing written: parse_module(path: 'Path'): path: got int" in shown.out
    assert "jobs ended as they should, and their totals equal a plain loop's" in shown.out
    assert "\x1b" not in shown.out  # neither bars nor colours where nobody looks at a terminal


def test_json_prints_the_report_and_nothing_else_on_stdout(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(quick(database_url), json_output=True, package_limit=PACKAGES) == 0
    shown = capsys.readouterr()
    report: dict[str, Any] = json.loads(shown.out)
    plan = make_plan(PACKAGES)
    statuses = {kind["kind"].rpartition(".")[2]: kind["statuses"] for kind in report["kinds"]}
    assert (report["ok"], report["differences"]) == (True, [])
    assert report["jobs"] == sum(plan.jobs.values())
    assert report["totals"]["modules"] == len(plan.modules)
    assert len(report["totals"]["longest"]) == 10
    assert report["metrics_samples"] > 100
    assert statuses["wait_for_change"] == {"failed": 1, "cancelled": 1}
    assert statuses["count_package"] == {"completed": PACKAGES}
    assert report["metrics_url"] in shown.err
    assert keys(report) == documented_keys()


def keys(report: dict[str, Any]) -> set[str]:
    totals = report["totals"]
    return {
        *report,
        *(f"kinds.{key}" for key in report["kinds"][0]),
        *(f"totals.{key}" for key in totals),
        *(f"totals.longest.{key}" for key in totals["longest"][0]),
    }


def documented_keys() -> set[str]:
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text().partition("## `--json`")[2]
    return set(re.findall(r"^\| `([a-z0-9_.]+)` \|", page, re.MULTILINE))


def test_jobs_of_earlier_runs_do_not_count(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert [main.run(quick(database_url), package_limit=1) for _ in range(2)] == [0, 0]


def test_a_job_that_ends_otherwise_than_it_should_fails_the_run(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(ref: object) -> bool:
        return False

    monkeypatch.setattr("callboard.demo.run.cancel_once_running", forget)
    monkeypatch.setattr("callboard.demo.run.PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(spawn, "NOT_A_PATH", Path("a_path.py"))
    assert main.run(quick(database_url), package_limit=1) == 1
    shown = capsys.readouterr().out
    assert re.search(r"wait_for_change\) is running, expected cancelled", shown)
    assert "jobs of kind callboard.demo.jobs.parse_module, expected" in shown
    assert "a spawn with an argument of the wrong type was not refused" in shown


@pytest.mark.parametrize("json_output", [False, True])
def test_a_database_without_the_schema_is_named(
    empty_database_url: str, capsys: pytest.CaptureFixture[str], json_output: bool
) -> None:
    with pytest.raises(SchemaMissing, match="callboard migrate"):
        main.run(quick(empty_database_url), json_output=json_output, package_limit=1)
    assert capsys.readouterr().out == ""


def test_a_python_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("callboard.demo.plan.library_folder", lambda: tmp_path)
    with pytest.raises(ConfigurationError, match="no Python files"):
        main.run(Settings(database_url=None))


def test_without_a_database_a_private_server_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        "http_proxy", "http://127.0.0.1:1/"
    )  # as behind a firewall: what is local is not asked of a proxy
    assert main.run(Settings(database_url=None), package_limit=1) == 0
    assert "equal a plain loop's" in capsys.readouterr().out


@pytest.mark.processes
def test_ctrl_c_cancels_what_has_not_ended_and_exits_130(database_url: str) -> None:
    environment = {**os.environ, "CALLBOARD_DATABASE_URL": database_url}
    # A shell that runs the tests in the background has its children ignore Ctrl-C; this one must not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=listen)
    with process, psycopg.connect(database_url, autocommit=True) as connection:
        wait_until(lambda: _count(connection, "status = 'completed'") > 10, timeout_seconds=60)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        shown = process.stdout.read()
    assert process.returncode == 130
    assert "Interrupted" in shown
    assert "Traceback" not in shown
    with psycopg.connect(database_url) as connection:
        assert _count(connection, "status = 'cancelled'") > 1
        assert _count(connection, "status NOT IN ('completed', 'failed', 'cancelled')") == 0


def _count(connection: Any, condition: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM callboard.jobs WHERE {condition}").fetchone()
    return int(row[0])
