"""What the parent tells a worker process: how to prepare itself, and then what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from callboard import Settings


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a worker process needs in order to be prepared for its assignment. Travels as JSON.

    Attributes:
        number: of the place that it is for, from 1; None: it is the spare, and its assignment will say.
        modules: that define jobs.
        listening: the descriptors that it inherits; one of them may become its own.
        memory_limit_bytes: beyond which it would be replaced; None: no limit.
        beat_interval_seconds: how often it says that it lives.
        log_level: as ``--log-level``.
        log_format: as ``--log-format``.
        verbose: as ``--verbose``.
    """

    number: int | None
    modules: tuple[str, ...]
    listening: tuple[int, ...]
    memory_limit_bytes: int | None
    beat_interval_seconds: float
    log_level: str
    log_format: str
    verbose: bool

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Preparation:
        """Return what was made by ``document``."""
        return cls(**{**document, "modules": tuple(document["modules"]), "listening": tuple(document["listening"])})


@dataclass(frozen=True, slots=True)
class Assignment:
    """One worker process's part. Travels as JSON over the control pipe, as it may hold a password.

    Attributes:
        number: of its place among the processes, from 1.
        settings: those that were set, by name; see ``settings_document``.
        node: its name in history and listings.
        ended_nodes: processes of this parent that are dead for certain.
        listening: the descriptor of the socket for its ``/metrics``; None: it serves nothing.
        restarted: whether it comes after another one, so that a database that does not answer is waited for.
    """

    number: int
    settings: Mapping[str, Any]
    node: str
    ended_nodes: tuple[str, ...]
    listening: int | None
    restarted: bool

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Assignment:
        """Return what was made by ``document``."""
        return cls(**{**document, "ended_nodes": tuple(document["ended_nodes"])})


def settings_document(settings: Settings) -> dict[str, Any]:
    """Return the settings that were set, as JSON, with the passwords in their URLs."""
    return {name: _plain(value) for name, value in settings.model_dump(exclude_unset=True).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
