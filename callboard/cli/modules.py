"""Importing the modules that define a user's jobs."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from callboard import CallboardError, ConfigurationError, JobDefinition, UnknownJobKind
from callboard.actors.jobs.definition import default_registry


def import_modules(names: Sequence[str]) -> None:
    """Import modules by name, with the current directory on ``sys.path`` as under ``python -m``.

    Raises:
        ConfigurationError: one does not import; names it, the error and what to do.
    """
    for name in names:
        _import_module(name)


def find_job(target: str) -> JobDefinition[Any, Any]:
    """Return the job that ``target`` names: a kind that imported modules registered, or ``module:function``.

    Raises:
        UnknownJobKind: no imported module has such a job.
        ConfigurationError: the module does not import, or has no such job.
    """
    module_name, colon, path = target.partition(":")
    if not colon:
        return _registered(target)
    module = _import_module(module_name)
    try:
        found = operator.attrgetter(path)(module)
    except AttributeError as error:
        raise ConfigurationError(
            f"module {module_name} has no {path!r} ({error}); its jobs: {_jobs_of(module)}"
        ) from error
    if not isinstance(found, JobDefinition):
        raise ConfigurationError(
            f"{target} is a {type(found).__name__}, not a job: decorate the function with @job(); "
            f"the module's jobs: {_jobs_of(module)}"
        )
    return found


def require_jobs(modules: Sequence[str]) -> None:
    """Make sure that the imported modules define jobs.

    Raises:
        ConfigurationError: they define none.
    """
    if not default_registry.kinds():
        raise ConfigurationError(
            f"no job is defined in {', '.join(modules)}: a worker runs functions decorated with @job(); "
            f"name the modules that define them"
        )


def queues_of_jobs() -> frozenset[str]:
    """Return the queues that the imported jobs go to, unless a spawn says otherwise."""
    return frozenset(default_registry.require(kind).spawn_options.queue for kind in default_registry.kinds())


def _registered(kind: str) -> JobDefinition[Any, Any]:
    try:
        return default_registry.require(kind)
    except UnknownJobKind as error:
        raise UnknownJobKind(f"{error}: --import MODULE, or write module:function instead of the kind") from error


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except CallboardError as error:
        raise ConfigurationError(f"cannot import {name}: {error}. Nothing was started") from error
    except (Exception, SystemExit) as error:  # it is foreign code
        summary = f"{type(error).__name__}: {error}".strip().rstrip(":")
        raise ConfigurationError(
            f"cannot import {name}: {summary}. {_advice(name, error, here)}. Nothing was started"
        ) from error


def _advice(name: str, error: BaseException, here: str) -> str:
    if name.endswith(".py") or "/" in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        return f"Write the module's name instead of a path: {dotted}"
    if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{name}.".startswith(f"{error.name}."):
        return (
            f"Looked in the current directory ({here}) and in the installed packages: check the name and the directory"
        )
    return f"Mend it so that `python -c 'import {name}'` works here; --verbose shows the traceback"


def _jobs_of(module: ModuleType) -> str:
    names = (name for name, value in vars(module).items() if isinstance(value, JobDefinition))
    return ", ".join(sorted(names)) or "none"
