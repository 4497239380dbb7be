"""`callboard queue` and `callboard limit`."""

from .support import Database, Invoke, document, error_of, succeeded


def test_a_queue_is_paused_drained_and_resumed(invoke: Invoke, database: Database, folder) -> None:
    succeeded(invoke("job", "spawn", "app_jobs:greet", '"ada"'))
    assert succeeded(invoke("queue", "pause", "default")) == "default is paused\n"
    [queue] = document(invoke("queue", "list", "--json"))["queues"]
    assert (queue["queue"], queue["state"], queue["paused"], queue["runnable"]) == ("default", "paused", True, 1)
    assert queue["changed_by"].startswith("client:")
    assert document(invoke("queue", "drain", "default", "--json")) == {
        "queue": "default",
        "paused": False,
        "draining": True,
    }
    refused = invoke("job", "spawn", "app_jobs:greet", '"ada"')
    assert refused.exit_code == 75
    assert "queue 'default' is being drained" in error_of(refused)
    assert database.jobs == 1
    assert succeeded(invoke("queue", "resume", "default")) == "default is open\n"
    succeeded(invoke("job", "spawn", "app_jobs:greet", '"ada"'))


def test_limits_are_set_shown_and_cleared(invoke: Invoke, database: Database, folder) -> None:
    said = succeeded(invoke("limit", "set", "queue", "slow", "--max-running", 2, "--rate", 5, "--per", 60))
    assert said == "queue slow is limited: 2 running, 5 starts in 60 s\n"
    succeeded(invoke("limit", "set", "owner", "*", "--max-queued", 1))
    assert document(invoke("limit", "list", "--json"))["limits"] == [
        {
            "scope": "owner",
            "name": "*",
            "max_running": None,
            "max_queued": 1,
            "rate": None,
            "rate_period_seconds": None,
        },
        {"scope": "queue", "name": "slow", "max_running": 2, "max_queued": None, "rate": 5, "rate_period_seconds": 60},
    ]
    assert "2" in succeeded(invoke("limit", "list")).splitlines()[2].split()
    [queue] = document(invoke("queue", "list", "--json"))["queues"]
    assert (queue["queue"], queue["max_running"], queue["rate"]) == ("slow", 2, "5/60s")
    succeeded(invoke("job", "spawn", "app_jobs:fail", 1))
    full = invoke("job", "spawn", "app_jobs:fail", 1)
    assert full.exit_code == 75
    assert "owner 'ada' may have 1 jobs waiting" in error_of(full)
    assert succeeded(invoke("limit", "clear", "owner", "*")) == "owner * has no limit any more\n"
    assert invoke("limit", "clear", "owner", "*").exit_code == 1
    succeeded(invoke("job", "spawn", "app_jobs:fail", 1))


def test_what_makes_no_sense_is_refused_and_nothing_is_set(invoke: Invoke, database: Database) -> None:
    for words in (
        ("limit", "set", "queue", "q"),
        ("limit", "set", "kind", "k", "--max-queued", 3),
        ("limit", "set", "node", "n", "--max-running", 3),
        ("limit", "set", "queue", "q", "--rate", 3, "--per", 0.5),
        ("queue", "pause", ""),
    ):
        assert invoke(*words).exit_code == 2, words
    assert document(invoke("limit", "list", "--json")) == {"limits": []}
    assert document(invoke("queue", "list", "--json")) == {"queues": []}
