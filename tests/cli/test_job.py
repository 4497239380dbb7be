"""`callboard job list|show|spawn|cancel|retry`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from callboard.actors.jobs.identifier import uuid7

from .support import Database, Invoke, document, error_of, succeeded

pytestmark = pytest.mark.usefixtures("folder")

SUMMARY_KEYS = [
    *("id", "kind", "queue", "status", "stop_reason", "priority", "attempt", "max_attempts", "run_at", "waiting_on"),
    *(
        "created_at",
        "started_at",
        "finished_at",
        "node",
        "owner",
        "tags",
        "unique_key",
        "concurrency_key",
        "parent_id",
        "progress",
        "error",
    ),
]
DETAIL_KEYS = [
    *("arguments", "result", "metadata", "timeout_seconds", "deadline", "lease_expires_at", "child_key", "child_index"),
    *("concurrency_limit", "unique_statuses", "result_ttl_seconds", "result_expired"),
    *("callback_url", "callback_sent_at", "callback_status_code", "callback_error"),
]


def spawn(invoke: Invoke, *words: object) -> str:
    result = invoke("job", "spawn", *words, "--json")
    assert result.exit_code == 0, result.output
    return document(result)["id"]


def end(database: Database, job_id: str, status: str = "failed") -> None:
    """End a job as a worker would have."""
    database.execute(f"""
        UPDATE callboard.jobs
        SET status = '{status}', turn = NULL, stop_reason = 'attempts_exhausted', attempt = 1, finished_at = now(),
            error = '{{"type": "ValueError", "message": "bad", "traceback": "Traceback\\nValueError: bad\\n"}}'
        WHERE id = '{job_id}'""")


def run(database: Database, job_id: str) -> None:
    """Claim a job as a worker would have."""
    database.execute(
        "UPDATE callboard.jobs SET status = 'running', turn = NULL, lease_expires_at = now() + interval '1 h',"
        f" started_at = now(), attempt = 1, node = 'host:1:abcd' WHERE id = '{job_id}'"
    )


def test_a_job_is_spawned_by_its_module(invoke: Invoke, database: Database) -> None:
    result = invoke("job", "spawn", "app_jobs:greet", '"Ada"', 3)

    job_id, *words = succeeded(result).split()
    assert words == ["spawned:", "app_jobs.greet,", "queue", "default,", "pending"]
    assert database.query("SELECT id, kind, arguments FROM callboard.jobs") == [
        (UUID(job_id), "app_jobs.greet", {"name": "Ada", "times": 3})
    ]


def test_a_job_is_spawned_by_its_kind_with_options_and_keywords(invoke: Invoke, database: Database) -> None:
    result = invoke(
        *("job", "spawn", "app_jobs.greet", "--import", "app_jobs", "--kwargs", '{"name": "Ada"}', "--json"),
        *("-o", "queue=other", "-o", "priority=-5", "-o", "run_at=2030-01-01T00:00:00+01:00", "-o", "owner=eve"),
        *("-o", 'tags=["a", "b"]', "-o", 'metadata={"n": 1}', "-o", "unique_key=42", "-o", "hold=true"),
    )

    assert result.exit_code == 0, result.output
    spawned = document(result)
    assert spawned == {"id": spawned["id"], "kind": "app_jobs.greet", "queue": "other", "created": True}
    rows = database.query(
        "SELECT status, queue, priority, run_at, owner, tags, metadata, unique_key, arguments FROM callboard.jobs"
    )
    run_at = datetime(2029, 12, 31, 23, tzinfo=UTC)
    assert rows == [("created", "other", -5, run_at, "eve", ["a", "b"], {"n": 1}, "42", {"name": "Ada"})]


def test_history_names_the_command_line_as_a_client(invoke: Invoke, database: Database) -> None:
    spawn(invoke, "app_jobs:greet", '"Ada"')
    ((actor,),) = database.query("SELECT actor FROM callboard.history")
    assert actor.startswith("client:")


def test_a_negative_number_is_an_argument(invoke: Invoke, database: Database) -> None:
    spawn(invoke, "app_jobs:fail", -1)
    assert database.query("SELECT arguments FROM callboard.jobs") == [({"number": -1},)]


def test_a_second_job_with_the_same_unique_key_is_the_first(invoke: Invoke, database: Database) -> None:
    first = spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "unique_key=k")
    second = invoke("job", "spawn", "app_jobs:greet", '"Eve"', "-o", "unique_key=k")
    assert succeeded(second).startswith(f"{first} exists: an unfinished app_jobs.greet with unique_key 'k'")
    assert (
        document(invoke("job", "spawn", "app_jobs:greet", '"Eve"', "-o", "unique_key=k", "--json"))["created"] is False
    )
    assert database.jobs == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["app_jobs:greet"], 65, "missing a required argument: 'name'"),
        (["app_jobs:greet", "7"], 65, "name: got int, Input should be a valid string"),
        (["app_jobs:greet", '"a"', "1", "2"], 65, "too many positional arguments"),
        (["app_jobs:greet", '"a"', "--kwargs", '{"colour": 1}'], 65, "unexpected keyword argument 'colour'"),
        (["app_jobs.greet", '"a"'], 65, "unknown job kind 'app_jobs.greet'"),
        (["app_jobs.gone", '"a"', "--import", "app_jobs"], 65, "known here: app_jobs.fail, app_jobs.greet"),
        (["app_jobs:gone"], 78, "module app_jobs has no 'gone'"),
        (["app_jobs:asyncio"], 78, "app_jobs:asyncio is a module, not a job: decorate the function with @job()"),
        (["app_gone:greet"], 78, "cannot import app_gone: ModuleNotFoundError: No module named 'app_gone'"),
    ],
)
def test_a_wrong_call_is_refused(invoke: Invoke, database: Database, words, code: int, message: str) -> None:
    result = invoke("job", "spawn", *words)
    assert message in error_of(result)
    assert result.exit_code == code
    assert database.is_untouched


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Ada"], "argument 1: 'Ada' is not JSON"),
        (["--kwarg", "{}"], "argument 1: '--kwarg' is not JSON"),
        (["--kwargs", "[1]"], "--kwargs: got '[1]', expected a JSON object"),
        (['"a"', "-o", "colour=red"], "-o colour=red: expected OPTION=VALUE with one of the options callback_url"),
        (['"a"', "-o", "queue"], "-o queue: expected OPTION=VALUE"),
        (['"a"', "-o", "priority=high"], "priority: got str 'high'"),
        (['"a"', "-o", "tags=red"], "-o tags: 'red' is not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_a_usage_error(invoke: Invoke, database: Database, words, message: str) -> None:
    result = invoke("job", "spawn", "app_jobs:greet", *words)
    assert message in " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert database.is_untouched


def test_a_payload_over_the_limit_is_refused(invoke: Invoke, database: Database) -> None:
    result = invoke("job", "spawn", "app_jobs:greet", json.dumps("a" * 200), CALLBOARD_PAYLOAD_LIMIT_BYTES="100")
    assert "at most 100 are stored (CALLBOARD_PAYLOAD_LIMIT_BYTES)" in error_of(result)
    assert result.exit_code == 65
    assert database.is_untouched


def test_list_filters_and_pages(invoke: Invoke, database: Database) -> None:
    greetings = [spawn(invoke, "app_jobs:greet", '"Ada"') for _ in range(3)]
    failing = spawn(invoke, "app_jobs:fail", 1)
    end(database, failing)

    def ids(*words: object) -> list[str]:
        return [job["id"] for job in document(invoke("job", "list", "--json", *words))["jobs"]]

    assert ids() == [failing, *reversed(greetings)]
    assert ids("--status", "failed") == [failing]
    assert ids("--status", "failed", "--status", "pending") == [failing, *reversed(greetings)]
    assert ids("--kind", "app_jobs.greet", "--queue", "default") == list(reversed(greetings))
    assert ids("--queue", "slow", "--tag", "red", "--tag", "blue", "--owner", "ada") == [failing]
    assert ids("--tag", "green") == []
    page = document(invoke("job", "list", "--json", "--limit", 2))
    assert page["next_before"] == greetings[2]
    rest = document(invoke("job", "list", "--json", "--limit", 2, "--before", page["next_before"]))
    assert ([job["id"] for job in rest["jobs"]], rest["next_before"]) == ([greetings[1], greetings[0]], None)


def test_the_documents_have_the_documented_keys(invoke: Invoke, database: Database) -> None:
    job_id = spawn(invoke, "app_jobs:fail", 1)
    end(database, job_id)
    (listed,) = document(invoke("job", "list", "--json"))["jobs"]
    shown = document(invoke("job", "show", job_id, "--json"))

    assert list(listed) == SUMMARY_KEYS
    assert listed["error"] == {"type": "ValueError", "message": "bad"}
    assert list(shown) == ["job", "history"]
    assert sorted(shown["job"]) == sorted([*SUMMARY_KEYS, *DETAIL_KEYS])
    assert shown["job"]["error"]["traceback"] == "Traceback\nValueError: bad\n"
    assert (shown["job"]["arguments"], shown["job"]["result"]) == ({"number": 1}, None)
    assert list(shown["history"][0]) == ["sequence", "from_status", "to_status", "attempt", "reason", "actor", "at"]
    assert shown["history"][0] | {"sequence": 0, "actor": "", "at": ""} == {
        "sequence": 0,
        "from_status": None,
        "to_status": "pending",
        "attempt": 0,
        "reason": "spawned",
        "actor": "",
        "at": "",
    }
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert [key for key in [*shown["job"], *shown["history"][0]] if f"`{key}`" not in page] == []


def test_times_are_utc(invoke: Invoke, database: Database) -> None:
    spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "run_at=2030-01-01T00:00:00+01:00")
    (job,) = document(invoke("job", "list", "--json"))["jobs"]
    assert job["run_at"] == "2029-12-31T23:00:00.000Z"
    assert "not before 2029-12-31T23:00:00.000Z" in succeeded(invoke("job", "list"))


def test_what_is_no_terminal_gets_plain_lines(invoke: Invoke, database: Database) -> None:
    job_id = spawn(invoke, "app_jobs:fail", 1)
    end(database, job_id)
    heading, row = succeeded(invoke("job", "list")).splitlines()
    assert heading.split() == ["ID", "STATUS", "KIND", "QUEUE", "ATTEMPT", "CREATED", "FINISHED", "DETAIL"]
    assert row.split()[:5] == [job_id, "failed", "app_jobs.fail", "slow", "1/1"]
    assert row.endswith("ValueError: bad")
    assert heading.index("DETAIL") == row.index("ValueError")


def test_list_says_what_matters_about_each(invoke: Invoke, database: Database) -> None:
    parked, running, failed = (spawn(invoke, "app_jobs:greet", '"Ada"') for _ in range(3))
    database.execute(f"UPDATE callboard.jobs SET waiting_on = 'children', turn = NULL WHERE id = '{parked}'")
    run(database, running)
    end(database, failed)
    database.execute(f"UPDATE callboard.jobs SET error = NULL WHERE id = '{failed}'")
    lines = succeeded(invoke("job", "list")).splitlines()[1:]
    assert [line.split("Z  ")[-1].strip() for line in lines] == [
        "attempts_exhausted",
        "on host:1:abcd",
        "waits for its children",
    ]


def test_a_page_says_how_to_get_the_next(invoke: Invoke, database: Database) -> None:
    spawn(invoke, "app_jobs:greet", '"Ada"')
    newest = spawn(invoke, "app_jobs:greet", '"Ada"')
    result = invoke("job", "list", "--limit", 1)
    assert result.stderr == f"There are more: --before {newest}\n"
    assert invoke("job", "list", "--limit", 2).stderr == ""


def test_show_has_everything(invoke: Invoke, database: Database) -> None:
    job_id = spawn(invoke, "app_jobs:fail", 1)
    end(database, job_id)
    text = succeeded(invoke("job", "show", job_id))
    assert f"id               {job_id}" in text
    assert 'tags             ["red", "blue"]' in text
    assert "error: ValueError: bad\nTraceback\nValueError: bad\n" in text
    assert text.splitlines()[-1].split()[1:4] == ["pending", "0", "spawned"]


def test_a_jobs_words_do_not_steer_the_terminal(invoke: Invoke, database: Database) -> None:
    spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "owner=\x1b[31mred\n")
    text = succeeded(invoke("job", "list")) + succeeded(
        invoke("job", "show", document(invoke("job", "list", "--json"))["jobs"][0]["id"])
    )
    assert "\x1b" not in text
    assert r"\x1b[31mred\n" in text


def test_an_unknown_job_is_not_found(invoke: Invoke, database: Database) -> None:
    unknown = uuid7()
    result = invoke("job", "show", unknown, "--json")
    assert error_of(result).startswith(f"no job has the id {unknown}: it was never spawned here")
    assert result.exit_code == 1


def test_an_id_that_is_none_is_a_usage_error(invoke: Invoke, database: Database) -> None:
    for command in ("show", "cancel", "retry"):
        result = invoke("job", command, "42")
        assert "'42' is not a valid UUID" in result.stderr
        assert result.exit_code == 2


def test_cancel_says_what_became_of_each(invoke: Invoke, database: Database) -> None:
    pending, failed = spawn(invoke, "app_jobs:greet", '"Ada"'), spawn(invoke, "app_jobs:fail", 1)
    end(database, failed)
    unknown = str(uuid7())

    result = invoke("job", "cancel", pending, failed, unknown, "--json")

    assert document(result)["jobs"] == [
        {"id": pending, "outcome": "cancelled", "status": "cancelled"},
        {"id": failed, "outcome": "ended_before", "status": "failed"},
        {"id": unknown, "outcome": "not_found", "status": None},
    ]
    assert result.exit_code == 1
    again = invoke("job", "cancel", pending, pending)
    assert again.stdout == f"{pending} had ended before: cancelled\n"
    assert again.exit_code == 0


def test_retry_of_an_ended_job_spawns_a_copy(invoke: Invoke, database: Database) -> None:
    old = spawn(invoke, "app_jobs:fail", 1, "-o", "priority=7", "-o", "deadline_seconds=900", "-o", 'metadata={"a": 1}')
    end(database, old)

    result = invoke("job", "retry", old, old, "--json")

    (retried,) = document(result)["jobs"]
    new = retried["new_id"]
    assert retried == {"id": old, "outcome": "copied", "new_id": new}
    assert result.exit_code == 0
    rows = database.query(
        "SELECT id::text, status, kind, queue, arguments, priority, max_attempts, timeout_seconds, owner, tags,"
        " metadata, round(extract(epoch FROM deadline - created_at)), attempt FROM callboard.jobs ORDER BY id"
    )
    assert rows[0][:2] == (old, "failed")
    same = ("app_jobs.fail", "slow", {"number": 1}, 7, 1, 60, "ada", ["red", "blue"])
    assert rows[1] == (new, "pending", *same, {"a": 1, "retry_of": old}, 900, 0)
    assert succeeded(invoke("job", "retry", old)).startswith(f"{old} has ended, which is final: its copy ")


def test_retry_makes_no_second_unfinished_job_of_a_unique_key(invoke: Invoke, database: Database) -> None:
    old = spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "unique_key=k")
    end(database, old)
    new = spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "unique_key=k")
    result = invoke("job", "retry", old, "--json")
    assert document(result)["jobs"] == [{"id": old, "outcome": "copy_exists", "new_id": new}]
    assert result.exit_code == 1
    assert database.jobs == 2


def test_retry_lets_a_job_that_waits_for_its_time_run_now(invoke: Invoke, database: Database) -> None:
    later = spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "delay_seconds=900")
    assert succeeded(invoke("job", "retry", later)) == f"{later} waited for its time: it is runnable now\n"
    assert database.query("SELECT run_at <= now() FROM callboard.jobs") == [(True,)]
    assert document(invoke("job", "retry", later, "--json"))["jobs"][0]["outcome"] == "already_runnable"


def test_retry_leaves_the_others_alone(invoke: Invoke, database: Database) -> None:
    held = spawn(invoke, "app_jobs:greet", '"Ada"', "-o", "hold=true")
    running, parked = spawn(invoke, "app_jobs:greet", '"Ada"'), spawn(invoke, "app_jobs:greet", '"Ada"')
    database.execute(f"UPDATE callboard.jobs SET waiting_on = 'children', turn = NULL WHERE id = '{parked}'")
    run(database, running)
    unknown = str(uuid7())
    result = invoke("job", "retry", held, running, parked, unknown, "--json")
    assert [job["outcome"] for job in document(result)["jobs"]] == [
        "held",
        "running",
        "waits_for_children",
        "not_found",
    ]
    assert result.exit_code == 1
    assert database.jobs == 3
    words = invoke("job", "retry", held, running, parked, unknown).stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in words] == [
        "is held until your code releases it (JobRef.release)",
        "is running; cancel it first",
        "waits for its children: retry those that hold it up",
        "does not exist",
    ]
