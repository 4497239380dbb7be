"""`callboard callback`."""

from .support import Database, Invoke, document, succeeded


def test_callbacks_are_listed_and_dead_ones_replayed(invoke: Invoke, database: Database, folder) -> None:
    url = "https://example.com/done"
    spawned = document(
        invoke("job", "spawn", "app_jobs:greet", '"ada"', "-o", f"callback_url={url}", "-o", "hold=true", "--json")
    )
    assert document(invoke("callback", "list", "--json")) == {"callbacks": []}
    succeeded(invoke("job", "cancel", spawned["id"]))
    [owed] = document(invoke("callback", "list", "--state", "pending", "--json"))["callbacks"]
    assert (owed["job_id"], owed["url"], owed["state"], owed["attempts"]) == (spawned["id"], url, "pending", 0)
    assert invoke("callback", "replay", spawned["id"]).exit_code == 1
    database.query("UPDATE callboard.callbacks SET state = 'dead', attempts = 10, error = 'no' RETURNING 1")
    assert "dead" in succeeded(invoke("callback", "list"))
    assert document(invoke("callback", "replay", "--dead", "--json")) == {
        "callbacks": [{"job_id": spawned["id"], "replayed": True}]
    }
    assert document(invoke("callback", "list", "--json"))["callbacks"][0]["attempts"] == 0
    for words in ((), (spawned["id"], "--dead")):
        assert invoke("callback", "replay", *words).exit_code == 2
    assert document(invoke("job", "show", spawned["id"], "--json"))["job"]["callback_url"] == url


def test_a_url_that_may_not_be_called_is_refused(invoke: Invoke, database: Database, folder) -> None:
    refused = invoke("job", "spawn", "app_jobs:greet", '"ada"', "-o", "callback_url=http://10.0.0.1/")
    assert refused.exit_code == 78
    assert "callback_url: got 'http://10.0.0.1/'" in refused.stderr
    assert database.jobs == 0
