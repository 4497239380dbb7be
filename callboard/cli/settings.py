"""Settings from the environment and the command line, with errors that name where a wrong one came from."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

import pydantic
from pydantic_settings import SettingsError

from callboard import ConfigurationError, Settings

DEFAULT_METRICS_PORT: Final = 9464

_OPTIONS: Final = {
    "database_url": "--database-url",
    "queues": "--queue",
    "metrics_port": "--metrics-port",
    "drain_timeout_seconds": "--drain-timeout",
    "processes": "--processes",
    "process_memory_limit_bytes": "--memory-limit",
    "process_spare": "--spare",
}


def load_settings(database_url: str | None = None, **overrides: Any) -> Settings:
    """Return the environment's settings, with what the command line says instead.

    Args:
        database_url: the value of ``--database-url``. The environment's direct URL belongs to the environment's
            database, so it is dropped then.
        **overrides: settings that options gave, by their names.

    Raises:
        ConfigurationError: a value is wrong; names the option or the environment variable.
    """
    if database_url is not None:
        overrides |= {"database_url": database_url, "direct_database_url": None}
    try:
        return Settings(**overrides)
    except pydantic.ValidationError as error:
        raise ConfigurationError(_explain(error, overrides)) from error
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = "the environment" if field is None else _variable(field[1])
        raise ConfigurationError(f"{name}: {error.__cause__ or error}; expected JSON") from error


def load_store_settings(database_url: str | None) -> Settings:
    """Return settings that say where the database is.

    Raises:
        ConfigurationError: as ``load_settings``, or there is no database URL.
    """
    settings = load_settings(database_url)
    require_database(settings)
    return settings


def require_database(settings: Settings) -> str:
    """Return the URL of the database, past any pooler.

    Raises:
        ConfigurationError: there is none.
    """
    url = settings.direct_database_url or settings.database_url
    if settings.database_url is None or url is None:
        raise ConfigurationError(
            "no database: set CALLBOARD_DATABASE_URL, or pass --database-url, to postgresql://user@host/database; "
            "or try `callboard dev`, which starts a private server"
        )
    return url.get_secret_value()


def worker_settings(
    database_url: str | None,
    *,
    queues: Collection[tuple[str, int]],
    metrics_port: int | str | None,
    drain_timeout: float | None,
    default_metrics_port: int,
    processes: int | None = None,
    memory_limit_bytes: int | None = None,
    spare: bool | None = None,
) -> Settings:
    """Return the settings of a process that works.

    Args:
        database_url: as for ``load_settings``.
        queues: of ``--queue``; none leaves the environment's.
        metrics_port: of ``--metrics-port``: a port, "none", or None if it was not given.
        drain_timeout: of ``--drain-timeout``, or None.
        default_metrics_port: where neither the option nor the environment says one.
        processes: of ``--processes``, or None.
        memory_limit_bytes: of ``--memory-limit``, or None.
        spare: of ``--spare``, or None.

    Raises:
        ConfigurationError: as ``load_settings``, or a queue is given twice.
    """
    overrides: dict[str, Any] = {}
    if queues:
        overrides["queues"] = _distinct(queues)
    if metrics_port is not None:
        overrides["metrics_port"] = None if metrics_port == "none" else metrics_port
    if drain_timeout is not None:
        overrides["drain_timeout_seconds"] = drain_timeout
    if processes is not None:
        overrides["processes"] = processes
    if memory_limit_bytes is not None:
        overrides["process_memory_limit_bytes"] = memory_limit_bytes
    if spare is not None:
        overrides["process_spare"] = spare
    settings = load_settings(database_url, **overrides)
    if "metrics_port" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"metrics_port": default_metrics_port})


def _distinct(queues: Collection[tuple[str, int]]) -> dict[str, int]:
    slots = dict(queues)
    if len(slots) < len(queues):
        names = [name for name, _ in queues]
        twice = ", ".join(sorted(name for name in slots if names.count(name) > 1))
        raise ConfigurationError(f"--queue: {twice} is given more than once; give each queue once, with all its slots")
    return slots


def _explain(error: pydantic.ValidationError, overrides: Collection[str]) -> str:
    details = []
    for detail in error.errors(include_url=False):
        field, *path = map(str, detail["loc"])
        name = _OPTIONS.get(field, field) if field in overrides else _variable(field)
        got = type(detail["input"]).__name__ if field.endswith("database_url") else repr(detail["input"])[:80]
        details.append(f"{'.'.join([name, *path])}: got {got}; {detail['msg']}")
    return "; ".join(details)


def _variable(field: str) -> str:
    return f"CALLBOARD_{field.upper()}"
