"""Pykka's own test suite, unchanged, with EventActor in place of ThreadingActor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SDIST = Path(os.environ.get("CALLBOARD_PYKKA_SDIST", REPOSITORY / ".venv/pykka-sdist/pykka-4.5.0.tar.gz"))
TESTS_IN_THE_SUITE = 152


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SDIST.is_file():
        pytest.fail(
            f"Pykka's sdist is not at {SDIST}: run `make test`, which fetches it, "
            "or let CALLBOARD_PYKKA_SDIST name a pykka-4.5.0.tar.gz"
        )
    folder = tmp_path_factory.mktemp("pykka")
    with tarfile.open(SDIST) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)
    return folder / "pykka-4.5.0"


@pytest.mark.parametrize("dispatcher", ["loop", "pool"])
def test_pykkas_own_suite_passes(suite: Path, dispatcher: str) -> None:
    import_path = [str(Path(__file__).parent / "pykka_suite"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {
        "CALLBOARD_PYKKA_DISPATCHER": dispatcher,
        "PYTHONPATH": os.pathsep.join(filter(None, import_path)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }
    plugins = ["-p", "pytest_mock", "-p", "event_actor_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *plugins, "tests"]
    run = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, timeout=100)
    report = run.stdout + run.stderr
    assert run.returncode == 0, report
    passed = re.search(r"^(\d+) passed in", run.stdout, re.MULTILINE)
    assert passed is not None, report
    assert int(passed[1]) == TESTS_IN_THE_SUITE, report
    started = re.search(r"^event actors started: (\d+)$", run.stdout, re.MULTILINE)
    assert started is not None, report
    assert int(started[1]) > 100, report
