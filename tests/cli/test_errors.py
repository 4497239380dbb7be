"""One line on stderr, an exit code, and nothing written."""

import socket
import sys
from collections.abc import Iterator

import pytest

from callboard import (
    CallboardError,
    ConfigurationError,
    InvalidArguments,
    JobDefinitionError,
    PayloadTooLarge,
    QueueFull,
    SchemaMismatch,
    SchemaMissing,
    ServerTooOld,
    StoreUnavailable,
    UnknownJobKind,
)
from callboard.actors.errors import EmbeddedServerError
from callboard.cli.errors import ExitCode, SupervisorGaveUp, exit_code, masked

from .support import Database, Invoke, error_of

READING = [["status"], ["job", "list"], ["job", "show", "01a20f56-52bf-72db-bb82-2afdf2e428cb"]]
WRITING = [
    ["job", "spawn", "app_jobs:greet", '"Ada"'],
    ["job", "cancel", "01a20f56-52bf-72db-bb82-2afdf2e428cb"],
    ["job", "retry", "01a20f56-52bf-72db-bb82-2afdf2e428cb"],
    ["worker", "app_jobs", "--metrics-port", "0"],
]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """The address of a server that is not there: the port is taken, and nobody listens on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://ada:s3cr3t@127.0.0.1:{taken.getsockname()[1]}/postgres"


@pytest.mark.parametrize("words", [*READING, *WRITING, ["migrate"]], ids=" ".join)
def test_no_server(invoke: Invoke, refusing_url: str, words: list[str]) -> None:
    result = invoke(*words, CALLBOARD_DATABASE_URL=refusing_url)
    assert "the database cannot be reached" in error_line(result.stderr)
    assert "s3cr3t" not in result.output
    assert (result.exit_code, result.stdout) == (69, "")


@pytest.mark.parametrize("words", [*READING, *WRITING], ids=" ".join)
def test_no_schema(invoke: Invoke, empty_database_url: str, words: list[str]) -> None:
    result = invoke(*words, CALLBOARD_DATABASE_URL=empty_database_url)
    assert "has no schema 'callboard' of Callboard's: run `callboard migrate`" in error_line(result.stderr)
    assert (result.exit_code, result.stdout) == (69, "")
    assert Database(empty_database_url).query("SELECT to_regnamespace('callboard')") == [(None,)]


@pytest.mark.parametrize("words", [*READING, *WRITING], ids=" ".join)
def test_a_newer_schema(invoke: Invoke, database: Database, words: list[str]) -> None:
    database.execute("UPDATE callboard.schema_version SET version_num = '9999'")
    result = invoke(*words)
    assert "is at revision 9999, newer than this code's" in error_line(result.stderr)
    assert (result.exit_code, result.stdout) == (69, "")
    assert database.is_untouched


def error_line(stderr: str) -> str:
    """Return the last line: a worker has a log before it."""
    line = stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("words", [*READING, *WRITING, ["migrate"]], ids=" ".join)
def test_no_database_url(invoke: Invoke, words: list[str]) -> None:
    result = invoke(*words)
    assert error_of(result).startswith("no database: set CALLBOARD_DATABASE_URL, or pass --database-url")
    assert result.exit_code == 78


def test_another_kind_of_database(invoke: Invoke) -> None:
    result = invoke("status", "--database-url", "mysql://ada:s3cr3t@host/x")
    assert "begins with mysql://; Callboard needs PostgreSQL" in error_of(result)
    assert result.exit_code == 78


def test_verbose_shows_the_traceback(invoke: Invoke) -> None:
    result = invoke("status", "--verbose")
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("error: no database")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CALLBOARD_PG_POOL_SIZE", "many", "CALLBOARD_PG_POOL_SIZE: got 'many'; Input should be a valid integer"),
        ("CALLBOARD_LEASE_SECONDS", "-1", "CALLBOARD_LEASE_SECONDS: got '-1'; Input should be greater than 0"),
        ("CALLBOARD_QUEUES", "default", "CALLBOARD_QUEUES: Expecting value"),
        ("CALLBOARD_QUEUES", '{"cpu": 0}', "CALLBOARD_QUEUES.cpu: got 0; Input should be greater than or equal to 1"),
        ("CALLBOARD_DATABASE_SCHEMA", "a-b", "CALLBOARD_DATABASE_SCHEMA: got 'a-b'; String should match pattern"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(invoke: Invoke, variable: str, value: str, message: str) -> None:
    result = invoke("worker", "app_jobs", **{variable: value})
    assert message in error_of(result)
    assert result.exit_code == 78


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--queue", "default"], "got 'default', expected a name and how many jobs run at a time"),
        (["--queue", "=4"], "got '=4', expected a name"),
        (["--queue", "cpu=0"], "got 'cpu=0', expected a name"),
        (["--queue", "cpu=many"], "got 'cpu=many', expected a name"),
        (["--metrics-port", "70000"], "got '70000', expected a port"),
        (["--metrics-port", "off"], "got 'off', expected a port"),
        (["--drain-timeout", "-1"], "-1.0 is not in the range x>=0"),
        (["--processors", "4"], "No such option"),
    ],
)
def test_a_wrong_option_is_a_usage_error(invoke: Invoke, database: Database, words, message: str) -> None:
    result = invoke("worker", "app_jobs", *words)
    assert message in " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert database.is_untouched


def test_a_queue_is_given_once(invoke: Invoke, database: Database) -> None:
    result = invoke("worker", "app_jobs", "--queue", "cpu=4", "--queue", "cpu=5")
    assert "--queue: cpu is given more than once" in error_of(result)
    assert result.exit_code == 78


def test_a_wrong_value_is_named_by_its_option(invoke: Invoke, database: Database) -> None:
    result = invoke("worker", "app_jobs", "--queue", f"{'x' * 101}=4")
    assert error_of(result).startswith("--queue: got")
    assert "expected 1 to 100 printable characters" in error_of(result)
    assert result.exit_code == 78


def test_uvloop_that_is_not_there(invoke: Invoke, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    result = invoke("worker", "app_jobs", CALLBOARD_USE_UVLOOP="true")
    assert "uvloop is not installed: pip install 'callboard[uvloop]'" in error_line(result.stderr)
    assert result.exit_code == 78
    assert database.is_untouched


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at postgresql://ada:pw@host/db today", "at postgresql://ada:***@host/db today"),
        ("postgresql+psycopg://ada:p@w:x@host", "postgresql+psycopg://ada:***@host"),
        ("postgres://ada@host/db?password=pw&x=1", "postgres://ada@host/db?password=***&x=1"),
        ("host=a password=pw user=b", "host=a password=*** user=b"),
        ("postgresql://:pw@host", "postgresql://:***@host"),
        ("no password at http://127.0.0.1:9464/metrics", "no password at http://127.0.0.1:9464/metrics"),
    ],
)
def test_passwords_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArguments, 65),
        (PayloadTooLarge, 65),
        (UnknownJobKind, 65),
        (StoreUnavailable, 69),
        (ServerTooOld, 69),
        (SchemaMissing, 69),
        (SchemaMismatch, 69),
        (EmbeddedServerError, 69),
        (SupervisorGaveUp, 70),
        (ConfigurationError, 78),
        (JobDefinitionError, 78),
    ],
)
def test_exit_codes(error: type[CallboardError], code: int) -> None:
    assert exit_code(error("?")) == code


def test_every_other_error_is_a_plain_failure_or_worth_another_try() -> None:
    assert exit_code(CallboardError("?")) is ExitCode.FAILED
    assert exit_code(QueueFull("?", retry_after_seconds=1)) is ExitCode.TEMPORARY


def test_interrupt(invoke: Invoke, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("callboard.cli.status.with_store", interrupted)
    result = invoke("status")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")
