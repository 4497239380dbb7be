"""Finding a job's function by name, in a child process that has not imported it."""

from __future__ import annotations

import importlib
import operator
from typing import Any

from callboard.actors.errors import ConfigurationError, UnknownJobKind
from callboard.actors.jobs.definition import JobDefinition, default_registry

_importing = False


def find_job(module_name: str, qualname: str, kind: str) -> JobDefinition[Any, Any]:
    """Import a module and return the job of a kind that it defines.

    Args:
        module_name: as ``importable_module`` returned it.
        qualname: of the function within.
        kind: of the job.

    Raises:
        UnknownJobKind: the module does not define it (any more).
        Exception: whatever the import raises.
    """
    global _importing  # noqa: PLW0603 - one thread imports
    _importing = True
    try:
        module = importlib.import_module(module_name)
    finally:
        _importing = False
    try:
        by_name = operator.attrgetter(qualname)(module)
    except AttributeError:
        by_name = None
    # Mostly the first. The others: `job(...)(function)` under another name, or a decorator above `@job`.
    for found in (by_name, default_registry.get(kind), *vars(module).values()):
        if isinstance(found, JobDefinition) and found.kind == kind and found.function.__qualname__ == qualname:
            return found
    raise UnknownJobKind(
        f"module {module_name} as the child process imports it defines no job {qualname} of kind {kind}; define it on "
        f"every import, not only under a condition such as `if __name__ == '__main__'`"
    )


def refuse_while_importing() -> None:
    """Make sure that a module which is imported only for its jobs starts nothing.

    Raises:
        ConfigurationError: this is a job's process, and the module is being imported.
    """
    if _importing:
        raise ConfigurationError(
            "this module starts a runtime when it is imported, and the child process of a job imports it to find the "
            "job: start the runtime under `if __name__ == '__main__':`"
        )
