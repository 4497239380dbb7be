"""What the database itself refuses: SQL conditions that are made from the state machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from callboard.actors.batches.state import EDGES as BATCH_EDGES
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.jobs.state import EDGES, TERMINAL, Reason, Status


def quote_list(values: Iterable[str]) -> str:
    """Return ``'a', 'b'``: SQL literals of names that need no escaping."""
    return ", ".join(f"'{value}'" for value in values)


def status_check(column: str = "status") -> str:
    """Return the SQL condition that a column holds a status."""
    return f"{column} IN ({quote_list(Status)})"


def reason_check(column: str = "reason") -> str:
    """Return the SQL condition that a column holds a reason."""
    return f"{column} IN ({quote_list(Reason)})"


def edge_check() -> str:
    """Return the SQL condition that a history row's statuses are an edge of the state machine."""
    first = quote_list(target for source, target in EDGES if source is None)
    others = _pairs((source, target) for source, target in EDGES if source is not None)
    return (
        f"CASE WHEN from_status IS NULL THEN to_status IN ({first})\n"
        f"     ELSE from_status || '>' || to_status IN (\n{others}\n     ) END"
    )


def forbidden_change() -> str:
    """Return the trigger condition that an UPDATE of a job's status takes an edge that does not exist."""
    edges = _pairs((source, target) for source, target in EDGES if source is not None)
    return f"old.status <> new.status AND old.status || '>' || new.status NOT IN (\n{edges}\n     )"


def batch_status_check(column: str = "status") -> str:
    """Return the SQL condition that a column holds the status of a batch."""
    return f"{column} IN ({quote_list(BatchStatus)})"


def item_status_check(column: str = "status") -> str:
    """Return the SQL condition that a column holds the status of a batch's item."""
    return f"{column} IN ({quote_list(ItemStatus)})"


def forbidden_batch_change() -> str:
    """Return the trigger condition that an UPDATE of a batch's status takes an edge that does not exist."""
    edges = _pairs((source, target) for source, targets in BATCH_EDGES.items() for target in sorted(targets))
    return f"old.status <> new.status AND old.status || '>' || new.status NOT IN (\n{edges}\n     )"


def _pairs(edges: Iterable[tuple[str, str]]) -> str:
    return ",\n".join(f"         '{source}>{target}'" for source, target in edges)


UNFINISHED_SQL: Final = quote_list(status for status in Status if status not in TERMINAL)
