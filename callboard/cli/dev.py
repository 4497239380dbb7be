"""``callboard dev``: a private PostgreSQL and a worker, in one terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from pydantic import SecretStr

from callboard import Runtime, Settings
from callboard.actors.jobs.definition import default_registry
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate

from .command import (
    command,
    drain_timeout_option,
    log_format_option,
    log_level_option,
    port_or_none,
    queue_option,
)
from .errors import masked
from .logs import configure_logging
from .modules import import_modules, queues_of_jobs, require_jobs
from .output import print_fields
from .serving import serve
from .settings import worker_settings
from .shutdown import ShutdownSignals

URL_FILE = "url"
"""In the data folder, readable by its owner: the server's address with its password, for other terminals."""
SLOTS = 100
"""Of each queue, where nobody chose queues."""


@command("dev")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".callboard"),
    show_default=True,
    help="Where the server keeps its data.",
)
@queue_option
@click.option(
    "--metrics-port",
    type=port_or_none,
    metavar="PORT|none",
    help="Where /metrics and the probes are. Default: CALLBOARD_METRICS_PORT, or a free one.",
)
@drain_timeout_option
@log_format_option
@log_level_option
def dev(
    modules: tuple[str, ...],
    data: Path,
    queues: tuple[tuple[str, int], ...],
    metrics_port: int | str | None,
    drain_timeout: float | None,
    log_format: str,
    log_level: str,
) -> None:
    """Start a private PostgreSQL, migrate it, and run the jobs that MODULEs define, until Ctrl-C.

    The data stay in --data for the next time. CALLBOARD_DATABASE_URL is not used. Without a MODULE there is the
    database and /metrics, and no worker. The first Ctrl-C stops in order, a second one cancels running jobs, a third
    ends at once (exit code 130).
    """
    settings = worker_settings(
        None, queues=queues, metrics_port=metrics_port, drain_timeout=drain_timeout, default_metrics_port=0
    )
    configure_logging(log_level, log_format)
    import_modules(modules)
    if modules:
        require_jobs(modules)
        settings = _with_all_queues(settings)
    with ShutdownSignals() as signals:
        click.echo(f"Starting a private PostgreSQL in {data} ...", err=True)
        with EmbeddedServer(data) as server:
            if signals.stop_requested:
                return
            migrate(server.url, schema=settings.database_schema)
            _write_url(data, server.url)
            settings = settings.model_copy(update={"database_url": SecretStr(server.url), "direct_database_url": None})
            serve(settings, signals, work=bool(modules), announce=lambda runtime: _announce(runtime, settings, data))


def _with_all_queues(settings: Settings) -> Settings:
    """Unless somebody chose queues, work on every queue that the jobs go to."""
    if "queues" in settings.model_fields_set:
        return settings
    others = dict.fromkeys(sorted(queues_of_jobs()), SLOTS)
    return settings.model_copy(update={"queues": settings.queues | others})


def _write_url(data: Path, url: str) -> None:
    """Leave the server's address for other terminals, for the eyes of the folder's owner only."""
    file = data / URL_FILE
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(f"{url}\n")


def _announce(runtime: Runtime, settings: Settings, data: Path) -> None:
    address, metrics = settings.database_url, runtime.metrics_url
    probes = [f"{metrics}/{probe}" for probe in ("livez", "readyz", "startupz")] if metrics else ["none"]
    print_fields(
        [
            ("database", masked(address.get_secret_value()) if address else None),
            ("elsewhere", f'export CALLBOARD_DATABASE_URL="$(cat {shlex.quote(str(data / URL_FILE))})"'),
            ("metrics", f"{metrics}/metrics" if metrics else "none"),
            ("probes", "  ".join(probes)),
            ("queues", ", ".join(f"{name}={slots}" for name, slots in settings.queues.items())),
            ("jobs", ", ".join(default_registry.kinds()) or "none: name the modules that define them"),
        ]
    )
    click.echo("Ctrl-C stops in order.", err=True)
