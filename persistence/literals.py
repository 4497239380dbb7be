"""PostgreSQL array literals, COPY fields and JSON, built as text.

psycopg adapts a list element by element in Python; one joined string costs about a tenth of that, and the hot
statements pass several columns of up to a thousand elements each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from callboard.actors.errors import ValueNotStorable

METADATA_PAIR_CHARACTERS: Final = 1000
"""What the index of metadata takes of a name and its value."""


def plain_array(values: Iterable[str]) -> str:
    """Return an array literal of values that need no quoting: numbers, UUIDs, names of ours, ``NULL``."""
    return "{" + ",".join(values) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Return an array literal of any texts; None becomes NULL."""
    return "{" + ",".join(["NULL" if value is None else quoted(value) for value in values]) + "}"


def quoted(value: str) -> str:
    """Return one text as a quoted element of an array literal."""
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'


def json_text(what: str, value: object) -> str:
    """Return a value as JSON.

    Args:
        what: names the value in the error's message.
        value: what ``json`` can write.

    Raises:
        ValueNotStorable: it has something that JSON does not know (NaN among it), or refers to itself.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueNotStorable(
            f"PostgreSQL cannot store a value ({what} is not JSON: {error}); nothing was written"
        ) from error


def metadata_pairs(metadata: Mapping[str, object]) -> list[str]:
    """Return the top level of a job's metadata in the form in which its index has it: ``name=JSON value``."""
    return [
        f"{name}={json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"[:METADATA_PAIR_CHARACTERS]
        for name, value in metadata.items()
    ]


def copy_field(value: str | None) -> str:
    r"""Return one text as a field of COPY's text format; None becomes ``\N``."""
    if value is None:
        return r"\N"
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if not value.isprintable():
        value = value.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return value
