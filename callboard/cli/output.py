"""How results look: JSON documents, tables on a terminal, plain aligned columns everywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .moment import iso

_UNLIMITED_WIDTH: Final = 100_000
_STYLES: Final = {
    "created": "dim",
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
}


def print_json(document: Any) -> None:
    """Print one JSON document on stdout. ASCII only, so that any locale can print it."""
    click.echo(json.dumps(document, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print rows below their columns' names; a heading above them if there is one."""
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells, title)
    else:
        _print_plain(columns, cells, title)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    pairs = [(name, _cell(value)) for name, value in fields if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        label = click.style(name.ljust(width), dim=True) if colours() else name.ljust(width)
        click.echo(f"{label}  {value}")


def colours() -> bool:
    """Tell whether stdout is a terminal whose user has not asked for NO_COLOR."""
    return sys.stdout.isatty() and not Console().no_color


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""Return ``text`` with control characters written as escapes: a job's words do not steer the terminal.

    Args:
        text: anything.
        keep_lines: leave ``\n`` and ``\t`` as they are.
    """
    kept = "\n\t" if keep_lines else ""
    return "".join(
        character if character.isprintable() or character in kept else character.encode("unicode_escape").decode()
        for character in text
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value) or ""
    if isinstance(value, dict | list):
        return json.dumps(value)
    return printable(str(value))


def _print_plain(columns: Sequence[str], rows: list[list[str]], title: str | None) -> None:
    if title:
        click.echo(title)
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], rows: list[list[str]], title: str | None) -> None:
    table = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, title=title, title_justify="left", header_style="bold"
    )
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(row[index].isdigit() for row in rows)
        table.add_column(column, no_wrap=True, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    # Never cut: where the terminal is narrower, it breaks the lines itself, and an id can still be copied whole.
    unlimited = Console(width=_UNLIMITED_WIDTH)
    natural_width = unlimited.measure(table).maximum
    Console(highlight=False, width=max(Console().width, natural_width)).print(table)
