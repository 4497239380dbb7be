"""What one cycle of polling found, by the names that its users know."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

_log = logging.getLogger(__name__)

PollStage: TypeAlias = Literal["list", "submit", "retrieve", "results", "apply", "cancel"]
CycleOutcome: TypeAlias = Literal["ok", "partial", "error"]


@dataclass(slots=True)
class BatchPollingMetrics:
    """One cycle of polling.

    Attributes:
        start_time: when it began, timezone-aware.
        total_batches: how many batches were due.
        anthropic_batches: how many of them are Anthropic's.
        running_count: how many have not ended after it.
        completed_count: how many ended in it, in whatever status.
        updated_items_count: how many items got their outcome in it.
        batches, running, completed, updated_items: the same by provider.
        errors: failures by provider and stage.
        unrecognized: answers with a status that is not known, by provider.
    """

    start_time: datetime
    total_batches: int = 0
    anthropic_batches: int = 0
    running_count: int = 0
    completed_count: int = 0
    updated_items_count: int = 0
    batches: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)
    updated_items: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, PollStage]] = field(default_factory=Counter)
    unrecognized: Counter[str] = field(default_factory=Counter)

    def found(self, provider: str) -> None:
        """A batch is due."""
        self.total_batches += 1
        self.anthropic_batches += provider == "anthropic"
        self.batches[provider] += 1

    def still_running(self, provider: str) -> None:
        """A batch has not ended."""
        self.running_count += 1
        self.running[provider] += 1

    def ended(self, provider: str) -> None:
        """A batch has ended."""
        self.completed_count += 1
        self.completed[provider] += 1

    def items_updated(self, provider: str, items: int) -> None:
        """Items got their outcome."""
        self.updated_items_count += items
        self.updated_items[provider] += items

    def failed(self, provider: str, stage: PollStage) -> None:
        """Something failed."""
        self.errors[provider, stage] += 1

    @property
    def outcome(self) -> CycleOutcome:
        """Whether all went well, some of it, or nothing at all."""
        if not self.errors:
            return "ok"
        listed = not any(stage == "list" for _, stage in self.errors)
        return "partial" if listed else "error"

    def summary(self) -> dict[str, Any]:
        """Return the six fields, and what went wrong, as plain data."""
        return {
            "start_time": self.start_time.isoformat(),
            "total_batches": self.total_batches,
            "anthropic_batches": self.anthropic_batches,
            "running_count": self.running_count,
            "completed_count": self.completed_count,
            "updated_items_count": self.updated_items_count,
            "errors": {f"{provider} {stage}": count for (provider, stage), count in sorted(self.errors.items())},
        }

    def log_summary(self) -> None:
        """Log the cycle as one structured event."""
        level = logging.INFO if self.outcome == "ok" else logging.WARNING
        summary = self.summary()
        _log.log(
            level,
            "polled %d batches (%d of anthropic): %d running, %d ended, %d items updated%s",
            self.total_batches,
            self.anthropic_batches,
            self.running_count,
            self.completed_count,
            self.updated_items_count,
            f"; failures: {summary['errors']}" if self.errors else "",
            extra={"event": "batches.polled", **summary},
        )
