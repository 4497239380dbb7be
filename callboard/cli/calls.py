"""A call of a job as words of a command line: JSON arguments, ``-o option=value``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from callboard import ConfigurationError, ConfiguredJob, JobDefinition
from callboard.actors.jobs.options import OPTION_NAMES
from callboard.actors.jobs.types import JsonScalar

_JSON_OPTIONS: Final = frozenset({"metadata", "tags", "unique_statuses"})


def parse_arguments(words: Sequence[str]) -> tuple[Any, ...]:
    """Return positional arguments.

    Raises:
        click.BadParameter: one is not JSON.
    """
    return tuple(_json(f"argument {position}", word) for position, word in enumerate(words, 1))


def parse_keywords(text: str | None) -> dict[str, Any]:
    """Return keyword arguments from a JSON object.

    Raises:
        click.BadParameter: it is none.
    """
    if text is None:
        return {}
    keywords = _json("--kwargs", text)
    if not isinstance(keywords, dict):
        raise click.BadParameter(f'--kwargs: got {text!r}, expected a JSON object: \'{{"style": "long"}}\'')
    return keywords


def parse_metadata(word: str) -> tuple[str, JsonScalar]:
    """Read ``NAME=VALUE``: a JSON text, number, true, false or null; anything else is taken as a text.

    Raises:
        click.BadParameter: there is no name.
    """
    name, equals, text = word.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"got {word!r}, expected NAME=VALUE: tenant=acme, attempt=3, urgent=true")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return name, text
    return name, text if isinstance(value, dict | list) else value


def configured(job: JobDefinition[Any, Any], words: Sequence[str]) -> ConfiguredJob[Any, Any]:
    """Return a job with the options that ``-o option=value`` gave.

    Raises:
        click.BadParameter: an option is unknown, has no value, or one out of bounds.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in OPTION_NAMES:
            raise click.BadParameter(
                f"-o {word}: expected OPTION=VALUE with one of the options {', '.join(OPTION_NAMES)}"
            )
        options[name] = _json(f"-o {name}", value) if name in _JSON_OPTIONS else value
    try:
        return job.options(**options)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def _json(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(
            f"{what}: {text!r} is not JSON ({error.msg}); text needs quotes within the shell's: '\"text\"'"
        ) from error
