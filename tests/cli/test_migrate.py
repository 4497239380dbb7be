"""`callboard migrate`."""

import pytest

from .support import Database, Invoke, document, error_of, succeeded


@pytest.fixture
def empty(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("CALLBOARD_DATABASE_URL", empty_database_url)
    return Database(empty_database_url)


def has_schema(database: Database) -> bool:
    return database.query("SELECT to_regclass('callboard.jobs') IS NOT NULL")[0][0]


def test_creates_the_schema_once(invoke: Invoke, empty: Database) -> None:
    assert "schema 'callboard' created, at revision " in succeeded(invoke("migrate"))
    assert has_schema(empty)
    assert "already; nothing was done" in succeeded(invoke("migrate"))


def test_json(invoke: Invoke, empty: Database) -> None:
    first, second = (document(invoke("migrate", "--json")) for _ in range(2))
    newest = first["newest_revision"]
    assert first == {
        "schema": "callboard",
        "found_state": "missing",
        "found_revision": None,
        "newest_revision": newest,
        "migrated": True,
    }
    assert second == first | {"found_state": "current", "found_revision": newest, "migrated": False}


def test_check_changes_nothing(invoke: Invoke, empty: Database) -> None:
    result = invoke("migrate", "--check")
    assert result.stdout == "schema 'callboard' is not there; run `callboard migrate` to create it\n"
    assert result.exit_code == 1
    assert not has_schema(empty)
    assert document(invoke("migrate", "--check", "--json"))["migrated"] is False


def test_check_of_a_current_schema(invoke: Invoke, database: Database) -> None:
    assert "as this code needs it" in succeeded(invoke("migrate", "--check"))


def test_a_newer_schema_is_left_alone(invoke: Invoke, database: Database) -> None:
    database.execute("UPDATE callboard.schema_version SET version_num = '9999'")
    checked = invoke("migrate", "--check")
    assert "is at revision 9999, newer than this code's" in checked.stdout
    assert checked.exit_code == 1
    result = invoke("migrate")
    assert "a newer Callboard has migrated it: install that version here" in error_of(result)
    assert result.exit_code == 69


def test_sql_needs_no_database(invoke: Invoke) -> None:
    text = succeeded(invoke("migrate", "--sql", CALLBOARD_DATABASE_SCHEMA="board"))
    assert "CREATE TABLE board.jobs" in text or 'CREATE TABLE "board".jobs' in text
    assert text.rstrip().endswith("COMMIT;")


def test_sql_makes_the_same_schema(invoke: Invoke, empty: Database) -> None:
    empty.execute(succeeded(invoke("migrate", "--sql")))
    assert "as this code needs it" in succeeded(invoke("migrate", "--check"))


def test_sql_with_check_is_a_usage_error(invoke: Invoke) -> None:
    assert invoke("migrate", "--sql", "--check").exit_code == 2


def test_the_direct_url_is_used(invoke: Invoke, empty: Database) -> None:
    unusable = "postgresql://nobody@127.0.0.1:1/nowhere"
    succeeded(invoke("migrate", CALLBOARD_DATABASE_URL=unusable, CALLBOARD_DIRECT_DATABASE_URL=empty.url))
    assert has_schema(empty)


def test_the_option_leaves_no_url_of_the_environment(invoke: Invoke, empty: Database) -> None:
    unusable = "postgresql://nobody@127.0.0.1:1/nowhere"
    succeeded(invoke("migrate", "--database-url", empty.url, CALLBOARD_DIRECT_DATABASE_URL=unusable))
    assert has_schema(empty)
