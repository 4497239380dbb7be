"""One model of settings: names, defaults and bounds."""

import os
from typing import Any

import pydantic
import pytest

from callboard.actors.settings import Settings, check_queue_name

SEED_DEFAULTS = {
    "enable_batch_job_polling": False,
    "poll_running_llm_batches_interval_seconds": 300,
    "poll_lock_retry_interval_seconds": 480,
    "batch_job_polling_lookback_weeks": 2,
    "batch_job_polling_batch_size": None,
    "pg_pool_size": 25,
    "pg_max_overflow": 10,
    "pg_pool_timeout": 30,
    "pg_pool_recycle": 1800,
    "event_loop_threadpool_max_workers": 43,
    "use_uvloop": False,
    "llm_request_timeout_seconds": 60.0,
    "streaming_queue_max_size": 1,
    "request_size_limit_bytes": 256 * 2**20,
    "max_background_tasks": 100,
    "max_connection_usage_ratio": 0.8,
    "max_cpu_usage_ratio": 0.9,
    "max_memory_usage_ratio": 0.85,
    "max_queue_length": 1000,
}
"""What the system before this one had; its users' environments keep their meaning."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("CALLBOARD_"):
            monkeypatch.delenv(name)


def test_the_seeds_settings_keep_their_names_and_defaults() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in SEED_DEFAULTS} == SEED_DEFAULTS


def test_the_environment_is_read_and_keywords_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBOARD_PG_POOL_SIZE", "7")
    monkeypatch.setenv("CALLBOARD_QUEUES", '{"cpu": 4, "default": 10}')
    assert Settings().pg_pool_size == 7
    assert Settings().queues == {"cpu": 4, "default": 10}
    assert Settings(pg_pool_size=8).pg_pool_size == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pg_pool_size", 0),
        ("pg_max_overflow", -1),
        ("pg_pool_timeout", 0),
        ("database_schema", "Robert'); DROP"),
        ("database_schema", ""),
        ("queues", {"default": 0}),
        ("queues", {"": 1}),
        ("queues", {"a\nb": 1}),
        ("lease_seconds", 0),
        ("lease_seconds", "soon"),
        ("drain_timeout_seconds", -1),
        ("metrics_port", 65536),
        ("max_cpu_usage_ratio", 1.1),
        ("claim_batch_size", 0),
        ("payload_limit_bytes", 0),
    ],
)
def test_a_value_out_of_bounds_is_named(name: str, value: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match=name):
        Settings(**{name: value})


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="pg_pool_sise"):
        Settings(pg_pool_sise=5)  # type: ignore[call-arg]


def test_settings_do_not_change() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Settings().pg_pool_size = 3  # type: ignore[misc]


def test_a_password_is_not_printed() -> None:
    settings = Settings(database_url="postgresql://me:hunter2@127.0.0.1/db")
    assert "hunter2" not in repr(settings)
    assert settings.database_url is not None
    assert "hunter2" in settings.database_url.get_secret_value()


def test_two_starts_of_one_node_have_different_names() -> None:
    settings = Settings(node_name="worker-1")
    first, second = settings.node(), settings.node()
    assert first != second
    assert {name.rsplit(":", 1)[0] for name in (first, second)} == {"worker-1"}
    assert Settings().node().count(":") == 2


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no description"


@pytest.mark.parametrize("name", ["", "q" * 101, "a\tb", "a\0"])
def test_a_queue_has_a_name_that_prints(name: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 100 printable characters"):
        check_queue_name(name)
    assert check_queue_name("größe 1") == "größe 1"
