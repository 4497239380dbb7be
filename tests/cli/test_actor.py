"""`callboard actor`: running workers, seen and handled from another process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from callboard.cli import serving
from callboard.cli.actor_tree import print_process
from callboard.cli.settings import load_settings
from tests.support.waiting import wait_until

from .processes import WAIT_SECONDS, CommandProcess, running
from .support import Database, Invoke, document, error_of, succeeded

RUNS = "INFO callboard.cli: worker "


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of admin sockets, this test's own."""
    monkeypatch.setenv("CALLBOARD_ADMIN_SOCKET_DIRECTORY", str(tmp_path / "sockets"))
    return tmp_path / "sockets"


@pytest.fixture
def worker(database: Database, folder: Path, sockets: Path) -> Iterator[CommandProcess]:
    with running("worker", "app_jobs", "--metrics-port", "none", folder=folder) as worker:
        worker.wait_for(RUNS)
        yield worker


def states(invoke: Invoke, *words: object) -> dict[str, str]:
    """Return the state of each supervised actor, by path."""
    (process,) = document(invoke("actor", "tree", "--json", *words))["processes"]

    def below(actor: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for child in actor["children"]:
            yield child["path"], child["state"]
            yield from below(child)

    return dict(below(process["actors"][0]))


@pytest.mark.processes
def test_a_worker_is_seen_and_handled(invoke: Invoke, worker: CommandProcess, folder: Path, sockets: Path) -> None:
    invoke("job", "spawn", "app_jobs:wait_for", f'"{folder}"')
    wait_until((folder / "started").exists, timeout_seconds=WAIT_SECONDS)
    tree = succeeded(invoke("actor", "tree"))
    assert tree.startswith(f"process {worker.process.pid}  ")
    assert re.search(r"── claimer  Claimer  running$", tree, re.MULTILINE), tree
    assert re.search(r"── JobActor  running  app_jobs\.wait_for [0-9a-f-]{36} attempt 1$", tree, re.MULTILINE), tree

    assert succeeded(invoke("actor", "stop", "claimer")) == "stopped root/work/claimer\n"
    assert succeeded(invoke("actor", "stop", "root/work/claimer")) == "root/work/claimer was stopped already\n"
    assert states(invoke)["root/work/claimer"] == "stopped"
    restarted = document(invoke("actor", "restart", "claimer", "--json", "--pid", worker.process.pid))
    assert restarted == {
        "pid": worker.process.pid,
        "path": "root/work/claimer",
        "was": "stopped",
        "restarted": ["root/work/claimer"],
    }
    assert set(states(invoke).values()) == {"running"}

    result = invoke("actor", "stop", "nobody")
    assert (result.exit_code, error_of(result)) == (1, "no actor 'nobody' here; `callboard actor tree` shows all")
    result = invoke("actor", "restart", "root")
    assert (result.exit_code, "only a child of a supervisor can" in error_of(result)) == (1, True)
    (folder / "go").touch()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert list(sockets.iterdir()) == []


@pytest.mark.processes
@pytest.mark.chaos
def test_several_workers(invoke: Invoke, database: Database, folder: Path, sockets: Path) -> None:
    with ExitStack() as stack:
        workers = []
        for name in ("one", "two", "three"):
            (folder / name).mkdir()
            (folder / name / "app_jobs.py").write_text((folder / "app_jobs.py").read_text())
            words = ("worker", "app_jobs", "--metrics-port", "none")
            workers.append(stack.enter_context(running(*words, folder=folder / name)))
        for worker in workers:
            worker.wait_for(RUNS)
        killed, hung, well = sorted(workers, key=lambda worker: worker.process.pid)
        pids = [worker.process.pid for worker in (killed, hung, well)]
        assert [each["pid"] for each in document(invoke("actor", "tree", "--json"))["processes"]] == pids
        result = invoke("actor", "stop", "claimer")
        assert result.exit_code == 2
        assert f"several workers run here: {pids[0]}, {pids[1]}, {pids[2]}; choose one with --pid" in result.stderr

        killed.process.kill()
        killed.process.wait()
        hung.send(signal.SIGSTOP)
        result = invoke("actor", "tree", "--json", "--timeout", 0.5)
        assert [each["pid"] for each in document(result)["processes"]] == [well.process.pid]
        assert "has not answered within 0.5 s" in result.stderr
        assert result.exit_code == 69
        assert len(list(sockets.iterdir())) == 2
        assert invoke("actor", "stop", "claimer", "--pid", well.process.pid).exit_code == 0


def test_no_worker(invoke: Invoke, sockets: Path, tmp_path: Path) -> None:
    for words in (("tree",), ("stop", "claimer"), ("restart", "claimer"), ("tree", "--pid", "1")):
        result = invoke("actor", *words)
        assert result.exit_code == 69
        assert f"has an admin socket in {sockets}" in error_of(result)
    result = invoke("actor", "tree", "--socket", tmp_path / "none.sock")
    assert (result.exit_code, "cannot reach a worker at" in error_of(result)) == (69, True)
    assert invoke("actor", "tree", "--pid", 1, "--socket", tmp_path / "none.sock").exit_code == 2


def test_a_folder_of_others(invoke: Invoke, database: Database, folder: Path, sockets: Path) -> None:
    sockets.mkdir(mode=0o755)
    sockets.chmod(0o755)
    for words in (("actor", "tree"), ("worker", "app_jobs", "--metrics-port", "none")):
        result = invoke(*words)
        assert result.exit_code == 78
        assert "expected drwx------" in result.stderr
    assert database.is_untouched


@pytest.mark.processes
def test_without_a_setting_there_is_one(database: Database, folder: Path, tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    with running("worker", "app_jobs", "--metrics-port", "none", folder=folder, **environment) as worker:
        worker.wait_for(RUNS)
        tree = subprocess.run(
            [sys.executable, "-m", "callboard.cli", "actor", "tree"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert f"process {worker.process.pid}  " in tree.stdout


def test_a_process_without_a_folder_for_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    default = tmp_path / f"callboard-{os.geteuid()}"
    default.touch()
    assert serving.with_admin_socket(load_settings()).admin_socket_directory is None
    assert "`callboard actor` cannot reach this process: no admin socket in" in caplog.text


@pytest.mark.parametrize(("value", "directory"), [("none", None), ("/run/callboard", Path("/run/callboard"))])
def test_a_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch, value: str, directory: Path | None) -> None:
    monkeypatch.setenv("CALLBOARD_ADMIN_SOCKET_DIRECTORY", value)
    assert serving.with_admin_socket(load_settings()).admin_socket_directory == directory


def test_how_a_tree_looks(capsys: pytest.CaptureFixture[str]) -> None:
    def actor(name: str, *children: object, **fields: object) -> dict[str, object]:
        defaults = {"type": "Player", "state": "running", "label": None, "mailbox_depth": 0, "handling": None}
        more = {"handling_seconds": None, "strategy": None, "restarts": 0, "answers": True, "children_omitted": 0}
        return {"name": name, "children": list(children)} | defaults | more | fields

    root = actor(
        "root",
        actor("a", mailbox_depth=3, handling="Look", handling_seconds=1.26),
        actor("b\x1b[31m", state="stopped", restarts=4),
        actor("Player", label="[red]job[/red] 7", handling="Run"),
        type="Supervisor",
        strategy="rest_for_one",
        answers=False,
        children_omitted=2,
    )
    print_process({"pid": 7, "node": "here:7", "started_at": "2026-11-24T20:41:33.123Z", "actors": [root]})
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "process 7  here:7, since 2026-11-24T20:41:33.123Z",
        "└── root  Supervisor rest_for_one  running  busy: its children that are down are not shown",
        "    ├── a  Player  running  mailbox 3  handles Look for 1.3 s",
        "    ├── b\\x1b[31m  Player  stopped  restarts 4",
        "    ├── Player  running  [red]job[/red] 7  handles Run",
        "    └── ... and 2 more",
    ]
