"""`callboard dev`: a private server, a worker, addresses."""

import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import place_in_memory
from tests.support.processes import processes_naming
from tests.support.waiting import wait_until

from .processes import WAIT_SECONDS, running
from .support import JOBS, Database, Invoke, document, succeeded

pytestmark = pytest.mark.processes


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory; the server's account can enter it, unlike tmp_path when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-", dir=place_in_memory())).resolve()
    folder.chmod(0o755)
    (folder / "app_jobs.py").write_text(JOBS)
    monkeypatch.chdir(folder)
    yield folder
    shutil.rmtree(folder)


def answers(address: str) -> bool:
    """Tell whether an address answers 200; a worker that has just started is not ready yet."""
    try:
        with urllib.request.urlopen(address, timeout=WAIT_SECONDS) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        error.close()
        return False


def test_a_server_and_a_worker(invoke: Invoke, project: Path) -> None:
    unusable = {"CALLBOARD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    with running("dev", "app_jobs", folder=project, **unusable) as dev:
        dev.wait_for("Ctrl-C stops in order.")
        served = dict(line.split(maxsplit=1) for line in dev.stdout.read_text().splitlines())
        url_file = project / ".callboard" / "url"
        url = url_file.read_text().strip()
        assert url_file.stat().st_mode & 0o777 == 0o600
        password = url.partition("@")[0].rpartition(":")[2]
        assert password not in dev.stdout.read_text() + dev.stderr.read_text()
        assert served["database"] == url.replace(password, "***")
        assert served["elsewhere"] == 'export CALLBOARD_DATABASE_URL="$(cat .callboard/url)"'
        assert served["queues"] == "default=100, slow=100"
        assert served["jobs"].startswith("app_jobs.fail, app_jobs.greet")
        for address in (served["metrics"], *served["probes"].split()):
            wait_until(lambda address=address: answers(address), timeout_seconds=WAIT_SECONDS)

        spawned = document(invoke("job", "spawn", "app_jobs:greet", '"Ada"', "--json", "--database-url", url))
        database = Database(url)
        wait_until(lambda: database.query("SELECT result FROM callboard.jobs") == [("Ada",)])
        dev.send(signal.SIGINT)
        assert dev.wait() == 0
    assert processes_naming(project) == []

    with running("dev", folder=project) as dev:
        dev.wait_for("Ctrl-C stops in order.")
        assert "none: name the modules that define them" in dev.stdout.read_text()
        shown = document(invoke("job", "show", spawned["id"], "--json", "--database-url", url_file.read_text().strip()))
        assert shown["job"]["status"] == "completed"
        assert document(invoke("status", "--json", "--database-url", url_file.read_text().strip()))["nodes"] == []
        dev.send(signal.SIGTERM)
        assert dev.wait() == 0
    assert processes_naming(project) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130)])
def test_a_third_signal_leaves_the_server_to_the_next_dev(
    invoke: Invoke, project: Path, number: signal.Signals, code: int
) -> None:
    words = ("dev", "app_jobs", "--data", project / "data", "--metrics-port", "none", "--drain-timeout", 3600)
    with running(*words, folder=project, CALLBOARD_CANCEL_GRACE_SECONDS="3600") as dev:
        dev.wait_for("Ctrl-C stops in order.")
        url = (project / "data" / "url").read_text().strip()
        succeeded(invoke("job", "spawn", "app_jobs:stubborn", f'"{project}"', "--database-url", url))
        wait_until((project / "started").exists, timeout_seconds=WAIT_SECONDS)
        dev.send(number)
        dev.wait_for("callboard.cli: stopping")
        dev.send(number)
        wait_until((project / "told").exists, timeout_seconds=WAIT_SECONDS)
        dev.send(number)
        assert dev.wait() == code
    assert Database(url).query("SELECT status FROM callboard.jobs") == [("running",)]
    with running("dev", "--data", project / "data", folder=project) as dev:
        dev.wait_for("Ctrl-C stops in order.")
        assert (project / "data" / "url").read_text().strip() == url
        dev.send(number)
        assert dev.wait() == 0
    assert processes_naming(project) == []
