"""``callboard worker``: a process that runs jobs, in production."""

from __future__ import annotations

import logging

import click

from callboard import Runtime
from callboard.actors.jobs.definition import default_registry

from .command import (
    command,
    database_url_option,
    drain_timeout_option,
    log_format_option,
    log_level_option,
    port_or_none,
    queue_option,
)
from .logs import configure_logging
from .modules import import_modules, queues_of_jobs, require_jobs
from .serving import serve
from .settings import DEFAULT_METRICS_PORT, require_database, worker_settings
from .shutdown import ShutdownSignals

_log = logging.getLogger("callboard.cli")


_EXIT_CODES = """\b
Exit codes:
  0    stopped in order
  2    usage
  69   no database, or one without the schema that this code needs
  70   the root supervisor gave up
  78   wrong settings, or a module that does not import
  130  ended by a third SIGINT (143: SIGTERM)
"""


@command("worker", epilog=_EXIT_CODES)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@queue_option
@database_url_option
@click.option(
    "--metrics-port",
    type=port_or_none,
    metavar="PORT|none",
    help=f"Where /metrics and the probes are; 0 takes a free one. Default: CALLBOARD_METRICS_PORT, or "
    f"{DEFAULT_METRICS_PORT}.",
)
@drain_timeout_option
@log_format_option
@log_level_option
def worker(
    modules: tuple[str, ...],
    queues: tuple[tuple[str, int], ...],
    database_url: str | None,
    metrics_port: int | str | None,
    drain_timeout: float | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run the jobs that MODULEs define, until SIGTERM or SIGINT.

    The first signal drains: no job is claimed any more, running ones may end within --drain-timeout, and the rest goes
    back to its queue without a counted attempt. A second signal ends the waiting, a third the process.
    """
    settings = worker_settings(
        database_url,
        queues=queues,
        metrics_port=metrics_port,
        drain_timeout=drain_timeout,
        default_metrics_port=DEFAULT_METRICS_PORT,
    )
    require_database(settings)
    configure_logging(log_level, log_format)
    import_modules(modules)
    require_jobs(modules)
    with ShutdownSignals() as signals:
        serve(settings, signals, work=True, announce=_announce)


def _announce(runtime: Runtime) -> None:
    queues = ", ".join(f"{name}={slots}" for name, slots in runtime.settings.queues.items())
    metrics = "no metrics" if runtime.metrics_url is None else f"{runtime.metrics_url}/metrics"
    _log.info(
        "worker %s runs; queues: %s; kinds: %s; %s", runtime.node, queues, ", ".join(default_registry.kinds()), metrics
    )
    for queue in sorted(queues_of_jobs() - runtime.settings.queues.keys()):
        _log.info("no --queue %s: jobs that go there are left to other workers", queue)
