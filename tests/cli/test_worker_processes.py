"""`callboard worker --processes N`: real processes, real signals, kill -9."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

from .processes import WAIT_SECONDS, running
from .support import Database, Invoke, error_of
from .worker_family import (
    RUN,
    children,
    hold,
    holder,
    is_alive,
    is_ready,
    last_line,
    left_in,
    read,
    reasons,
    spawn,
    status_of,
    supervisor_page,
    wait_completed,
    workers,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.mark.chaos
def test_a_killed_process_is_back_and_its_jobs_are_rescued_at_once(
    invoke: Invoke, database: Database, app: Path
) -> None:
    with workers(app, "--metrics-port", 0) as parent:
        parent.wait_for(RUN)
        base = supervisor_page(parent)
        targets = json.loads(read(f"{base}/targets"))
        assert [target["labels"] for target in targets] == [{"callboard_process": "1"}, {"callboard_process": "2"}]
        urls = [f"http://{target['targets'][0]}/metrics" for target in targets]
        assert all('callboard_job_slots{queue="default"}' in read(url) for url in urls)

        job_id = hold(invoke, app, "job")
        victim = holder(app, "job")
        before = children(parent)
        os.kill(victim, signal.SIGKILL)
        assert holder(app, "job", attempt=2) != victim
        wait_until(lambda: len(children(parent)) == 2 and victim not in children(parent), timeout_seconds=WAIT_SECONDS)
        (new,) = set(children(parent)) - set(before)
        (app / "go").touch()
        wait_completed(database, job_id)
        assert reasons(invoke, job_id) == ["spawned", "claimed", "lease_expired", "claimed", "succeeded"]

        wait_until(lambda: is_ready(base), timeout_seconds=WAIT_SECONDS)
        assert all('callboard_job_slots{queue="default"}' in read(url) for url in urls)  # on the port of its place
        page = read(f"{base}/metrics")
        assert 'callboard_process_exits_total{cause="signal"} 1.0' in page
        assert 'callboard_supervisor_restarts_total{strategy="one_for_one",supervisor="root"} 1.0' in page
        assert os.getpgid(new) == new  # a terminal's Ctrl-C is the parent's alone

        (app / "go").unlink()
        last = hold(invoke, app, "last")
        holder(app, "last")
        parent.send(signal.SIGTERM)
        parent.wait_for("stopping 2 processes")
        (app / "go").touch()
        assert parent.wait() == 0
    assert status_of(database, last) == ("completed", 1)
    assert last_line(parent).endswith("INFO callboard.cli: stopped")
    assert database.query("SELECT count(*) FROM callboard.nodes") == [(0,)]
    assert left_in(app) == []
    log = parent.stderr.read_text()
    assert "INFO [1] callboard.cli: worker " in log
    assert "INFO [2] callboard.cli: worker " in log


@pytest.mark.chaos
def test_a_stopped_process_is_killed_and_replaced(invoke: Invoke, database: Database, app: Path) -> None:
    with workers(app, CALLBOARD_HANG_LIMIT_SECONDS="3") as parent:
        parent.wait_for(RUN)
        job_id = hold(invoke, app, "job")
        victim = holder(app, "job")
        os.kill(victim, signal.SIGSTOP)
        parent.wait_for("was killed: its event loop has been silent for ")
        holder(app, "job", attempt=2)
        (app / "go").touch()
        wait_completed(database, job_id)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0


def test_the_first_signal_drains_all_at_once_and_the_second_puts_back(
    invoke: Invoke, database: Database, app: Path
) -> None:
    with workers(app, "--queue", "default=1", "--drain-timeout", 3600) as parent:
        parent.wait_for(RUN)
        ids = [hold(invoke, app, "a"), spawn(invoke, "app_jobs:wait_for", json.dumps(str(app)))]
        holder(app, "a")
        wait_until((app / "started").exists, timeout_seconds=WAIT_SECONDS)
        parent.send(signal.SIGINT)
        for process in (1, 2):  # both at once, and not one after the other
            parent.wait_for(f"INFO [{process}] callboard.cli: stopping")
        os.kill(children(parent)[0], signal.SIGTERM)  # as systemd does to a whole control group: counts no second time
        late = spawn(invoke, "app_jobs:greet", '"Ada"')
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
    assert [status_of(database, job_id) for job_id in ids] == [("pending", 0), ("pending", 0)]
    assert reasons(invoke, ids[0])[-1] == "shutdown"
    assert status_of(database, late) == ("pending", 0)


@pytest.mark.chaos
def test_the_third_signal_ends_all_at_once(invoke: Invoke, database: Database, app: Path) -> None:
    with workers(app, "--drain-timeout", 3600, CALLBOARD_CANCEL_GRACE_SECONDS="3600") as parent:
        parent.wait_for(RUN)
        job_id = spawn(invoke, "app_jobs:stubborn", json.dumps(str(app)))
        wait_until((app / "started").exists, timeout_seconds=WAIT_SECONDS)
        pids = children(parent)
        parent.send(signal.SIGTERM)
        parent.wait_for("stopping 2 processes")
        parent.send(signal.SIGTERM)
        wait_until((app / "told").exists, timeout_seconds=WAIT_SECONDS)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 143
        wait_until(lambda: not any(map(is_alive, pids)), timeout_seconds=WAIT_SECONDS)
    assert status_of(database, job_id) == ("running", 1)


@pytest.mark.chaos
def test_when_the_parent_is_killed_the_processes_drain_and_end(invoke: Invoke, database: Database, app: Path) -> None:
    with workers(app) as parent:
        parent.wait_for(RUN)
        job_id = hold(invoke, app, "job")
        working = holder(app, "job")
        pids = children(parent)
        parent.send(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: [pid for pid in pids if is_alive(pid)] == [working], timeout_seconds=WAIT_SECONDS)
        (app / "go").touch()
        wait_until(lambda: not is_alive(working), timeout_seconds=WAIT_SECONDS)
    assert status_of(database, job_id) == ("completed", 1)
    assert database.query("SELECT count(*) FROM callboard.nodes") == [(0,)]


@pytest.mark.chaos
def test_a_crash_loop_ends_the_parent(invoke: Invoke, database: Database, app: Path) -> None:
    spawn(invoke, "app_processes:die", 3)
    with workers(app, CALLBOARD_MAX_PROCESS_RESTARTS="1") as parent:
        assert parent.wait() == 1
    assert last_line(parent).startswith("error: ")
    assert "ended with exit code 3" in last_line(parent)


def test_a_process_over_its_memory_limit_is_replaced_and_its_job_ends(
    invoke: Invoke, database: Database, app: Path
) -> None:
    limits = {"CALLBOARD_MAX_PROCESS_RESTARTS": "0"}  # a restart would be the end
    with workers(app, "--metrics-port", 0, "--memory-limit", "250MiB", **limits) as parent:
        parent.wait_for(RUN)
        before = children(parent)
        job_id = spawn(invoke, "app_processes:grow", json.dumps(str(app)), 300)
        wait_until(lambda: len(children(parent)) == 3, timeout_seconds=WAIT_SECONDS)  # the new one comes first
        parent.wait_for("is replaced: it uses ")
        wait_until(
            lambda: (
                'callboard_process_recycles_total{outcome="replaced"} 1.0' in read(f"{supervisor_page(parent)}/metrics")
            ),
            timeout_seconds=WAIT_SECONDS,
        )
        assert status_of(database, job_id) == ("running", 1)
        (app / "go").touch()
        wait_completed(database, job_id)
        wait_until(lambda: len(children(parent)) == 2, timeout_seconds=WAIT_SECONDS)
        assert len(set(children(parent)) & set(before)) == 1
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
    assert reasons(invoke, job_id) == ["spawned", "claimed", "succeeded"]


@pytest.mark.parametrize(
    ("module", "environment", "code", "said"),
    [
        ("app_broken", {}, 78, "ended with exit code 78 before it was ready: cannot import app_broken: ValueError: no"),
        (
            "app_jobs",
            {"CALLBOARD_DATABASE_SCHEMA": "nowhere"},
            69,
            "exit code 69 before it was ready: the database has no",
        ),
    ],
)
def test_a_process_that_does_not_start(
    database: Database, app: Path, module: str, environment: dict[str, str], code: int, said: str
) -> None:
    (app / "app_broken.py").write_text("raise ValueError('no')")
    words = ("worker", module, "--processes", 2, "--no-spare", "--metrics-port", 0)
    with running(*words, folder=app, **environment) as parent:
        assert parent.wait() == code
    assert last_line(parent).startswith("error: a worker process did not start: process 1 (pid ")
    assert said in last_line(parent)
    assert database.is_untouched


def test_a_signal_while_they_start(database: Database, app: Path) -> None:
    (app / "app_slow.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(600)")
    words = ("worker", "app_slow", "--processes", 2, "--no-spare", "--metrics-port", "none")
    with running(*words, folder=app) as parent:
        wait_until((app / "importing").exists, timeout_seconds=WAIT_SECONDS)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
    assert database.is_untouched


# Bad input


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--processes", 0), 2, "Invalid value for '--processes': 0 is not in the range x>=1"),
        (("--processes", "many"), 2, "'many' is not a valid integer"),
        (
            ("--processes", 2, "--memory-limit", "lots"),
            2,
            "got 'lots', expected a number of bytes with a unit of B, KB",
        ),
        (("--processes", 2, "--memory-limit", "0MiB"), 2, "got '0MiB', expected"),
        (("--spare",), 78, "--spare: got a single process"),
        (("--memory-limit", "1GiB"), 78, "--memory-limit: got 1073741824 bytes for a single process"),
        (("--processes", 3, "--metrics-port", 65533), 78, "--processes 3, which need the ports up to 65536"),
    ],
)
def test_bad_input(
    invoke: Invoke, database: Database, folder: Path, words: tuple[object, ...], code: int, said: str
) -> None:
    result = invoke("worker", "app_jobs", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert database.is_untouched


def test_bad_settings(invoke: Invoke, database: Database, folder: Path) -> None:
    assert error_of(invoke("worker", "app_jobs", CALLBOARD_PROCESSES="0")).startswith("CALLBOARD_PROCESSES: got '0'")


def test_one_taken_port_of_several(invoke: Invoke, database: Database, folder: Path) -> None:
    base = free_range(3)
    with socket.create_server(("127.0.0.1", base + 2)):
        result = invoke("worker", "app_jobs", "--processes", 2, "--metrics-port", base)
    assert f"error: cannot serve metrics on host '127.0.0.1', port {base + 2}" in result.stderr
    assert result.exit_code == 78
    assert database.is_untouched


def free_range(count: int) -> int:
    """Return the first of some ports in a row that nobody uses now."""

    def found() -> int:
        with socket.create_server(("127.0.0.1", 0)) as first:
            base: int = first.getsockname()[1]
        for port in range(base, base + count):
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except (OSError, OverflowError):
                return 0
        return base

    return wait_until(found)
