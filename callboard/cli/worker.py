"""``callboard worker``: a process that runs jobs, in production."""

from __future__ import annotations

import click

from callboard import ConfigurationError

from .command import (
    VERBOSE,
    byte_size,
    command,
    database_url_option,
    drain_timeout_option,
    log_format_option,
    log_level_option,
    port_or_none,
    queue_option,
)
from .logs import configure_logging
from .modules import import_modules, require_jobs
from .serving import announce_worker, serve
from .settings import DEFAULT_METRICS_PORT, require_database, worker_settings
from .shutdown import ShutdownSignals
from .worker_processes import serve_processes
from .worker_program import WorkerOptions

_EXIT_CODES = """\b
Exit codes:
  0    stopped in order
  1    worker processes crashed too often (--processes)
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
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes. More than one have a parent that supervises them. Default: CALLBOARD_PROCESSES, or 1.",
)
@click.option(
    "--memory-limit",
    type=byte_size,
    metavar="SIZE",
    help="Replace a process that uses more memory than this, say 512MiB, by a new one, and let its jobs end. "
    "Default: CALLBOARD_PROCESS_MEMORY_LIMIT_BYTES, or no limit.",
)
@click.option(
    "--spare/--no-spare",
    default=None,
    help="Whether one more process has imported everything and waits, to take the place of one that dies within a "
    "second. Default: CALLBOARD_PROCESS_SPARE, or --spare where there are several --processes.",
)
@drain_timeout_option
@log_format_option
@log_level_option
def worker(
    modules: tuple[str, ...],
    queues: tuple[tuple[str, int], ...],
    database_url: str | None,
    metrics_port: int | str | None,
    processes: int | None,
    memory_limit: int | None,
    spare: bool | None,
    drain_timeout: float | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run the jobs that MODULEs define, until SIGTERM or SIGINT.

    The first signal drains: no job is claimed any more, running ones may end within --drain-timeout, and the rest goes
    back to its queue without a counted attempt. A second signal ends the waiting, a third the process.

    With --processes 4 a parent keeps four such processes running and passes signals on to them. It serves its own
    metrics on --metrics-port, and the processes serve theirs on the ports above that one. A fifth waits as the spare.
    """
    settings = worker_settings(
        database_url,
        queues=queues,
        metrics_port=metrics_port,
        drain_timeout=drain_timeout,
        default_metrics_port=DEFAULT_METRICS_PORT,
        processes=processes,
        memory_limit_bytes=memory_limit,
        spare=spare,
    )
    require_database(settings)
    configure_logging(log_level, log_format)
    if settings.processes > 1:
        verbose = click.get_current_context().meta.get(VERBOSE, False)
        with ShutdownSignals() as signals:
            serve_processes(settings, signals, WorkerOptions(modules, log_level, log_format, verbose))
        return
    if settings.process_memory_limit_bytes is not None:
        raise ConfigurationError(
            f"--memory-limit: got {settings.process_memory_limit_bytes} bytes for a single process, and nobody to "
            "replace it; expected --processes of at least 2"
        )
    if spare:
        raise ConfigurationError(
            "--spare: got a single process, and nobody to keep a spare for it; expected --processes of at least 2"
        )
    import_modules(modules)
    require_jobs(modules)
    with ShutdownSignals() as signals:
        serve(settings, signals, work=True, announce=announce_worker)
