"""The spare of `callboard worker --processes N`: real processes, real signals, kill -9."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

from .processes import WAIT_SECONDS, CommandProcess
from .support import Database, Invoke
from .worker_family import (
    RUN,
    children,
    hold,
    holder,
    is_alive,
    is_ready,
    left_in,
    read,
    spawn,
    status_of,
    supervisor_page,
    wait_completed,
    workers,
)

pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.timeout(240)]

NO_RESTART = {"CALLBOARD_MAX_PROCESS_RESTARTS": "0"}  # one would be the end


def spare_of(parent: CommandProcess, *, number: int = 1) -> int:
    """Return the process id of the spare, once so many have been prepared."""

    def found() -> list[str]:
        said = re.findall(r"a spare process \(pid (\d+)\) is prepared", parent.stderr.read_text())
        return said if len(said) >= number else []

    return int(wait_until(found, timeout_seconds=WAIT_SECONDS)[-1])


def test_it_takes_the_place_of_a_killed_process(invoke: Invoke, database: Database, app: Path) -> None:
    with workers(app, "--spare", "--metrics-port", 0) as parent:
        parent.wait_for(RUN)
        base = supervisor_page(parent)
        targets = json.loads(read(f"{base}/targets"))
        assert len(targets) == 2
        spare = spare_of(parent)
        wait_until(
            lambda: re.search(r'callboard_process_memory_bytes\{process="spare"\} [1-9]', read(f"{base}/metrics")),
            timeout_seconds=WAIT_SECONDS,
        )
        assert database.query("SELECT count(*) FROM callboard.nodes") == [(2,)]  # it is none

        job_id = hold(invoke, app, "job")
        victim = holder(app, "job")
        assert victim != spare
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: is_ready(base), timeout_seconds=WAIT_SECONDS)
        parent.wait_for(f"the spare process (pid {spare}) takes the place")
        (app / "go").touch()
        wait_completed(database, job_id)
        assert spare_of(parent, number=2) not in (spare, victim)  # and there is another one
        assert spare in children(parent)
        place = re.search(rf"process (\d): the spare process \(pid {spare}\)", parent.stderr.read_text())
        assert place is not None
        lines = [
            line for line in parent.stderr.read_text().splitlines() if f"[{place[1]}] callboard.cli: worker" in line
        ]
        assert len(lines) == 2
        assert lines[1].endswith(f"http://{targets[int(place[1]) - 1]['targets'][0]}/metrics")
        assert all("callboard_job_slots" in read(f"http://{target['targets'][0]}/metrics") for target in targets)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
    assert status_of(database, job_id) == ("completed", 2)
    assert database.query("SELECT count(*) FROM callboard.nodes") == [(0,)]
    assert left_in(app) == []


def test_when_the_parent_is_killed_the_spare_ends(database: Database, app: Path) -> None:
    with workers(app, "--spare") as parent:
        parent.wait_for(RUN)
        spare_of(parent)
        pids = children(parent)
        assert len(pids) == 3
        parent.send(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not any(map(is_alive, pids)), timeout_seconds=WAIT_SECONDS)
    assert database.query("SELECT count(*) FROM callboard.nodes") == [(0,)]


def test_the_third_signal_ends_the_spare(invoke: Invoke, database: Database, app: Path) -> None:
    with workers(app, "--spare", "--drain-timeout", 3600, CALLBOARD_CANCEL_GRACE_SECONDS="3600") as parent:
        parent.wait_for(RUN)
        spare = spare_of(parent)
        os.kill(spare, signal.SIGSTOP)  # so it cannot end by itself
        spawn(invoke, "app_jobs:stubborn", json.dumps(str(app)))
        wait_until((app / "started").exists, timeout_seconds=WAIT_SECONDS)
        pids = children(parent)
        for said in ("stopping 2 processes", "second signal: "):
            parent.send(signal.SIGTERM)
            parent.wait_for(said)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 143
        wait_until(lambda: not any(map(is_alive, pids)), timeout_seconds=WAIT_SECONDS)


def test_a_process_over_its_memory_limit_is_replaced_by_the_spare(
    invoke: Invoke, database: Database, app: Path
) -> None:
    with workers(app, "--spare", "--memory-limit", "250MiB", **NO_RESTART) as parent:
        parent.wait_for(RUN)
        spare = spare_of(parent)
        job_id = spawn(invoke, "app_processes:grow", json.dumps(str(app)), 300)
        parent.wait_for(f"the spare process (pid {spare}) takes the place")
        assert status_of(database, job_id) == ("running", 1)
        (app / "go").touch()
        wait_completed(database, job_id)
        assert status_of(database, job_id) == ("completed", 1)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0


def test_a_killed_spare_is_replaced_once_it_can_be_and_harms_nobody(
    invoke: Invoke, database: Database, app: Path
) -> None:
    with workers(app, "--spare", **NO_RESTART) as parent:
        parent.wait_for(RUN)
        spare = spare_of(parent)
        working = set(children(parent)) - {spare}
        module = app / "app_processes.py"
        good = module.read_text()
        module.write_text("raise ValueError('a bad deployment')")
        os.kill(spare, signal.SIGKILL)
        parent.wait_for("before it was prepared: cannot import app_processes: ValueError: a bad deployment")
        wait_completed(database, spawn(invoke, "app_jobs:greet", '"Ada"'))
        module.write_text(good)
        new = spare_of(parent, number=2)
        assert set(children(parent)) == working | {new}
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
