"""``callboard demo``: a database, a runtime, a run, an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from pydantic import SecretStr

from callboard import Runtime, Settings
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate

from .batch import POLL_INTERVAL_SECONDS, stand_in
from .plan import Plan, make_plan
from .report import Report
from .run import cancel_unfinished, check, perform
from .screen import Screen

EXIT_OK: Final = 0
EXIT_DIFFERENT: Final = 1
EXIT_INTERRUPTED: Final = 130


def run(settings: Settings, *, json_output: bool = False, package_limit: int | None = None) -> int:
    """Read the standard library with jobs, check everything, and show it.

    Args:
        settings: where ``database_url`` is set, that database is used; its schema must be there (``callboard
            migrate``). Otherwise a private server is started and removed. ``metrics_port`` defaults to a free one.
        json_output: print the report as JSON on stdout, and everything else on stderr.
        package_limit: read only so many packages; default: the whole library.

    Returns:
        The exit code: 0 if every job ended as it should and the totals are right, 1 if not, 130 after Ctrl-C.

    Raises:
        StoreUnavailable, ServerTooOld, SchemaMissing, SchemaMismatch: the given database is not usable, or went away.
        EmbeddedServerError: there is none, and no private server could be started.
        ConfigurationError: the metrics port is taken, or this Python has no library to read.
    """
    screen = Screen(json_output=json_output)
    plan = make_plan(package_limit)
    shared = settings.database_url is not None
    try:
        with _database(settings, screen) as with_database:
            report = asyncio.run(_run(_for_plan(with_database, plan), plan, screen, shared=shared))
    except KeyboardInterrupt:
        screen.interrupted()
        return EXIT_INTERRUPTED
    screen.report(report)
    return EXIT_OK if report.ok else EXIT_DIFFERENT


async def _run(settings: Settings, plan: Plan, screen: Screen, *, shared: bool) -> Report:
    # On a database of others the leader may be one of theirs, and it does not know the stand-in.
    async with AsyncExitStack() as stack:
        providers = {} if shared else await stack.enter_async_context(stand_in())
        polling = {
            "enable_batch_job_polling": bool(providers),
            "poll_running_llm_batches_interval_seconds": POLL_INTERVAL_SECONDS,
        }
        runtime = await stack.enter_async_context(Runtime(settings.model_copy(update=polling), providers=providers))
        screen.opening(plan, runtime.metrics_url, shared=shared)
        try:
            with screen.bars(plan) as bars:
                performance = await perform(runtime, plan, bars.update)
            with screen.busy("Checking each job's history, and the totals against a plain loop ..."):
                return await check(runtime, plan, performance)
        finally:
            await cancel_unfinished(runtime, plan)


@contextmanager
def _database(settings: Settings, screen: Screen) -> Generator[Settings]:
    """Lend a database: the given one, or one on a private server that ends with it."""
    if settings.database_url is not None:
        yield settings
        return
    server = EmbeddedServer()
    with screen.busy("Starting a private PostgreSQL ..."):
        server.start()
    with server:
        migrate(server.url, schema=settings.database_schema)
        url = SecretStr(server.url)
        yield settings.model_copy(update={"database_url": url, "direct_database_url": None})


def _for_plan(settings: Settings, plan: Plan) -> Settings:
    port = 0 if settings.metrics_port is None else settings.metrics_port
    return settings.model_copy(update={"queues": plan.queues, "metrics_port": port})
