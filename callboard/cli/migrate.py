"""``callboard migrate``: the schema of Callboard's tables."""

from __future__ import annotations

import click

from callboard.persistence import migrate as migrations
from callboard.persistence.migrate import SchemaState

from .command import command, database_url_option, json_option
from .errors import ExitCode
from .output import print_json
from .settings import load_settings, load_store_settings, require_database

_DONE = {
    SchemaState.MISSING: "created, at revision {newest}",
    SchemaState.OLDER: "migrated from revision {found} to {newest}",
    SchemaState.CURRENT: "is at revision {newest} already; nothing was done",
}
_FOUND = {
    SchemaState.MISSING: "is not there; run `callboard migrate` to create it",
    SchemaState.OLDER: "is at revision {found}, older than this code's {newest}; run `callboard migrate`",
    SchemaState.CURRENT: "is at revision {newest}, as this code needs it",
    SchemaState.NEWER: "is at revision {found}, newer than this code's {newest}; install that Callboard here",
}


@command("migrate")
@click.option("--sql", is_flag=True, help="Print the SQL for a database without the schema, and change nothing.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 0 if the schema is current, 1 if not.")
@database_url_option
@json_option
@click.pass_context
def migrate(ctx: click.Context, sql: bool, check: bool, database_url: str | None, as_json: bool) -> None:
    """Create the schema, or bring it to the newest revision.

    Safe from several nodes at once. Uses CALLBOARD_DIRECT_DATABASE_URL where that is set.
    """
    if sql:
        if check or as_json:
            raise click.UsageError("--sql prints SQL: it goes with neither --check nor --json")
        click.echo(migrations.migration_sql(schema=load_settings(database_url).database_schema), nl=False)
        return
    settings = load_store_settings(database_url)
    schema, url = settings.database_schema, require_database(settings)
    state, found = migrations.schema_state(url, schema=schema)
    if not check:
        migrations.migrate(url, schema=schema)
    newest = migrations.REVISIONS[-1]
    if as_json:
        print_json(
            {
                "schema": schema,
                "found_state": state.value,
                "found_revision": found,
                "newest_revision": newest,
                "migrated": not check and state is not SchemaState.CURRENT,
            }
        )
    else:
        text = (_FOUND if check else _DONE)[state].format(found=found, newest=newest)
        click.echo(f"schema {schema!r} {text}")
    if check and state is not SchemaState.CURRENT:
        ctx.exit(ExitCode.FAILED)
