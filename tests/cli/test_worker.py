"""`callboard worker`: real processes, real signals."""

import json
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from callboard import Runtime
from callboard.cli import serving
from tests.support.waiting import wait_until

from .processes import WAIT_SECONDS, running
from .support import Database, Invoke, document, succeeded

RUNS = "INFO callboard.cli: worker "
STOPPING = "INFO callboard.cli: stopping"


def spawn(invoke: Invoke, *words: object) -> str:
    result = invoke("job", "spawn", *words, "--json")
    assert result.exit_code == 0, result.output
    return document(result)["id"]


def wait_for_file(path: Path) -> None:
    wait_until(path.exists, timeout_seconds=WAIT_SECONDS)


def attempt(database: Database, job_id: str) -> tuple[object, ...]:
    """Return status, attempt, and the reason of the last transition."""
    (row,) = database.query(
        "SELECT status, attempt,"
        " (SELECT reason FROM callboard.history WHERE job_id = id ORDER BY sequence DESC LIMIT 1)"
        " FROM callboard.jobs WHERE id = %s",
        job_id,
    )
    return row


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(invoke: Invoke, database: Database, folder: Path, number: signal.Signals) -> None:
    job_id = spawn(invoke, "app_jobs:wait_for", json.dumps(str(folder)))
    with running("worker", "app_jobs", "--metrics-port", 0, folder=folder) as worker:
        wait_for_file(folder / "started")
        worker.send(number)
        worker.wait_for(STOPPING)
        later = spawn(invoke, "app_jobs:greet", '"Ada"')
        (folder / "go").touch()
        assert worker.wait() == 0
    assert attempt(database, job_id) == ("completed", 1, "succeeded")
    assert attempt(database, later) == ("pending", 0, "spawned")
    assert worker.stdout.read_text() == ""
    assert database.query("SELECT count(*) FROM callboard.nodes") == [(0,)]


@pytest.mark.processes
def test_a_drain_timeout_puts_jobs_back(invoke: Invoke, database: Database, folder: Path) -> None:
    job_id = spawn(invoke, "app_jobs:wait_for", json.dumps(str(folder)))
    with running("worker", "app_jobs", "--metrics-port", 0, "--drain-timeout", 0, folder=folder) as worker:
        wait_for_file(folder / "started")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert attempt(database, job_id) == ("pending", 0, "shutdown")


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_waiting(
    invoke: Invoke, database: Database, folder: Path, number: signal.Signals
) -> None:
    job_id = spawn(invoke, "app_jobs:wait_for", json.dumps(str(folder)))
    with running("worker", "app_jobs", "--metrics-port", 0, "--drain-timeout", 3600, folder=folder) as worker:
        wait_for_file(folder / "started")
        worker.send(number)
        worker.wait_for(STOPPING)
        worker.send(number)
        worker.wait_for("second signal: jobs that still run are told to end")
        assert worker.wait() == 0
    assert attempt(database, job_id) == ("pending", 0, "shutdown")


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_third_signal_ends_the_process(
    invoke: Invoke, database: Database, folder: Path, number: signal.Signals, code: int
) -> None:
    job_id = spawn(invoke, "app_jobs:stubborn", json.dumps(str(folder)))
    words = ("worker", "app_jobs", "--metrics-port", 0, "--drain-timeout", 3600)
    with running(*words, folder=folder, CALLBOARD_CANCEL_GRACE_SECONDS="3600") as worker:
        wait_for_file(folder / "started")
        worker.send(number)
        worker.wait_for(STOPPING)
        worker.send(number)
        wait_for_file(folder / "told")
        worker.send(number)
        assert worker.wait() == code
        worker.wait_for("the leases of jobs that ran here expire, and others run them again")
    assert attempt(database, job_id) == ("running", 1, "claimed")


@pytest.mark.processes
def test_works_on_its_queues_and_serves_its_metrics(invoke: Invoke, database: Database, folder: Path) -> None:
    fast, slow = spawn(invoke, "app_jobs:greet", '"Ada"'), spawn(invoke, "app_jobs:fail", 1)
    words = (
        "worker",
        "app_jobs",
        "--queue",
        "slow=2",
        "--queue",
        "other=3",
        "--metrics-port",
        0,
        "--log-format",
        "json",
    )
    with running(*words, folder=folder) as worker:
        worker.wait_for('"logger": "callboard.cli", "message": "worker ')
        wait_until(lambda: attempt(database, slow)[0] == "failed", timeout_seconds=WAIT_SECONDS)
        lines = [json.loads(line) for line in worker.stderr.read_text().splitlines()]
        (announced,) = [line["message"] for line in lines if line["message"].startswith("worker ")]
        assert "; queues: slow=2, other=3; kinds: app_jobs.fail, app_jobs.greet, app_jobs.stubborn" in announced
        assert "no --queue default: jobs that go there are left to other workers" in worker.stderr.read_text()
        metrics = announced.rpartition(" ")[2]
        with urllib.request.urlopen(metrics, timeout=WAIT_SECONDS) as response:
            page = response.read().decode()
        assert 'callboard_job_slots{queue="slow"} 2.0' in page
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert attempt(database, fast) == ("pending", 0, "spawned")


@pytest.mark.processes
def test_uvloop(invoke: Invoke, database: Database, folder: Path) -> None:
    pytest.importorskip("uvloop")
    (folder / "app_loop.py").write_text(
        "import asyncio\nfrom callboard import job\n\n"
        "@job()\nasync def loop() -> str:\n    return type(asyncio.get_running_loop()).__module__\n"
    )
    job_id = spawn(invoke, "app_loop:loop")
    with running("worker", "app_loop", "--metrics-port", "none", folder=folder, CALLBOARD_USE_UVLOOP="true") as worker:
        wait_until(lambda: attempt(database, job_id)[0] == "completed", timeout_seconds=WAIT_SECONDS)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert database.query("SELECT result FROM callboard.jobs") == [("uvloop",)]


@pytest.mark.processes
def test_a_hung_worker_shows_where(database: Database, folder: Path) -> None:
    with running("worker", "app_jobs", "--metrics-port", "none", folder=folder) as worker:
        worker.wait_for(RUNS)
        worker.send(signal.SIGUSR1)
        worker.wait_for("Current thread 0x")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


def test_J3_a_root_supervisor_that_gives_up_ends_the_process(  # noqa: N802 - the id of a rule
    invoke: Invoke, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GivesUp(Runtime):
        async def wait_given_up(self) -> None:
            return

    monkeypatch.setattr(serving, "Runtime", GivesUp)
    result = invoke("worker", "app_jobs", "--metrics-port", "none")
    assert result.stderr.splitlines()[-1].startswith("error: the root supervisor gave up: parts of this worker crashed")
    assert result.exit_code == 70


@pytest.mark.processes
def test_a_signal_while_it_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and says nothing
        silent.settimeout(WAIT_SECONDS)
        url = f"postgresql://ada@127.0.0.1:{silent.getsockname()[1]}/postgres"
        with running("worker", "app_jobs", "--metrics-port", 0, "--database-url", url, folder=folder) as worker:
            connection, _ = silent.accept()
            with connection:
                worker.send(signal.SIGTERM)
                assert worker.wait() == 0
    assert worker.stderr.read_text() == ""


def test_a_taken_port(invoke: Invoke, database: Database, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = invoke("worker", "app_jobs", "--metrics-port", taken.getsockname()[1])
    assert "error: cannot serve metrics on host '127.0.0.1', port" in result.stderr
    assert result.exit_code == 78
    assert database.is_untouched


def test_help_lists_the_exit_codes(invoke: Invoke) -> None:
    assert "\n    70   the root supervisor gave up\n" in succeeded(invoke("worker", "--help"))
