"""`callboard schedule`."""

from .support import Database, Invoke, document, succeeded


def test_a_schedule_is_created_listed_paused_resumed_and_deleted(invoke: Invoke, database: Database, folder) -> None:
    said = succeeded(
        invoke(
            *("schedule", "create", "nightly", "app_jobs:greet", '"ada"', "--cron", "30 2 * * *"),
            *("--zone", "Europe/Berlin", "--kwargs", '{"times": 2}', "-o", "priority=5", "--jitter", 10),
        )
    )
    assert said.startswith("nightly spawns app_jobs.greet at 30 2 * * * (Europe/Berlin), next ")
    [one] = document(invoke("schedule", "list", "--json"))["schedules"]
    assert (one["cron"], one["zone"], one["misfire"], one["source"]) == (
        "30 2 * * *",
        "Europe/Berlin",
        "once",
        "runtime",
    )
    assert (one["arguments"], one["options"]) == ({"name": "ada", "times": 2}, {"priority": 5})
    assert "nightly" in succeeded(invoke("schedule", "list"))
    [upcoming] = document(invoke("schedule", "next", "nightly", "--count", 2, "--json"))["schedules"]
    assert [tick["local"][11:16] for tick in upcoming["next"]] == ["02:30", "02:30"]
    assert succeeded(invoke("schedule", "pause", "nightly")) == "nightly is paused\n"
    assert document(invoke("schedule", "next", "--json"))["schedules"][0]["next"] == []
    assert document(invoke("schedule", "resume", "nightly", "--json")) == {
        "schedule": "nightly",
        "found": True,
        "paused": False,
    }
    assert invoke("schedule", "create", "nightly", "app_jobs:greet", '"b"', "--every", 60).exit_code != 0
    succeeded(invoke("schedule", "create", "nightly", "app_jobs:greet", '"b"', "--every", 60, "--replace"))
    assert "every 60 s" in succeeded(invoke("schedule", "list"))
    assert succeeded(invoke("schedule", "delete", "nightly")) == "nightly is deleted\n"
    for words in (("delete", "nightly"), ("pause", "nightly"), ("resume", "nightly"), ("next", "nightly")):
        assert invoke("schedule", *words).exit_code == 1, words
    assert database.jobs == 0


def test_what_makes_no_sense_is_refused_and_nothing_is_stored(invoke: Invoke, database: Database, folder) -> None:
    for words, named in (
        (("--cron", "61 * * * *"), "cron: got '61 * * * *'"),
        (("--cron", "* * * * *", "--zone", "Mars"), "zone: got 'Mars'"),
        ((), "expected one of the two"),
        (("--every", 0.1), "interval_seconds: got 0.1"),
        (("--cron", "* * * * *", "--every", 5), "expected one of the two"),
        (("--cron", "* * * * *", "-o", "priority=high"), "priority"),
    ):
        refused = invoke("schedule", "create", "s", "app_jobs:greet", '"ada"', *words)
        assert refused.exit_code == 2, words
        assert named in " ".join(refused.stderr.split())
    assert invoke("schedule", "create", "s", "app_jobs:greet", "--cron", "* * * * *").exit_code != 0
    assert document(invoke("schedule", "list", "--json")) == {"schedules": []}
