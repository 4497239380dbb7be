"""The command itself, and what it passes on."""

import importlib.metadata

import pytest

from callboard import Settings
from callboard.demo import main as demo

from .support import Invoke, error_of, succeeded

COMMANDS = [
    "demo",
    "dev",
    "worker",
    "migrate",
    "status",
    "job list",
    "job show",
    "job spawn",
    "job cancel",
    "job retry",
]


def test_version(invoke: Invoke) -> None:
    assert succeeded(invoke("--version")) == f"callboard {importlib.metadata.version('callboard')}\n"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_help(invoke: Invoke, words: str) -> None:
    text = succeeded(invoke(*words.split(), "--help"))
    assert f"Usage: callboard {words}" in text
    assert "--verbose" in text


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_that_read_have_json(invoke: Invoke, words: str) -> None:
    assert ("--json" in succeeded(invoke(*words.split(), "--help"))) == (words not in {"dev", "worker"})


def test_demo_is_given_its_settings_and_ends_with_its_code(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Settings, dict[str, object]]] = []

    def run(settings: Settings, **options: object) -> int:
        calls.append((settings, options))
        return 3

    monkeypatch.setattr(demo, "run", run)
    result = invoke("demo", "--json", "--packages", 2, "--database-url", "postgresql://host/db")
    ((settings, options),) = calls
    assert options == {"json_output": True, "package_limit": 2}
    assert settings.database_url.get_secret_value() == "postgresql://host/db"
    assert result.exit_code == 3


def test_demo_with_a_wrong_setting(invoke: Invoke) -> None:
    result = invoke("demo", CALLBOARD_PG_POOL_SIZE="x")
    assert "CALLBOARD_PG_POOL_SIZE: got 'x'" in error_of(result)
    assert result.exit_code == 78
