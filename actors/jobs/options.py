"""What a spawn may say about a job besides its arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import pydantic
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator

from callboard.actors.errors import ConfigurationError
from callboard.actors.retry import LONGEST_DELAY_SECONDS
from callboard.actors.settings import check_queue_name

from .limits import LARGEST_LIMIT
from .state import Status
from .types import OnConflict

Seconds = Annotated[float, Gt(0), Le(LONGEST_DELAY_SECONDS)]


def _storable(text: str) -> str:
    """Refuse what PostgreSQL's text cannot hold, before a statement with a thousand other jobs does."""
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise ValueError("NUL characters and lone surrogates cannot be stored")
    return text


Label = Annotated[str, MinLen(1), MaxLen(200), AfterValidator(_storable)]


class SpawnOptions(BaseModel):
    """Options of a spawn: a job's defaults, then what ``job.options(...)`` and ``spawn(...)`` say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    queue: str = Field("default", description="The queue; a worker takes from the queues it was given.")
    priority: Annotated[int, Ge(-32768), Le(32767)] = Field(
        0, description="Lower runs first, like nice; who has waited long enough goes before a lower one (`turn.py`)."
    )
    max_attempts: Annotated[int, Ge(1), Le(32767)] = Field(3, description="Attempts in all, the first one included.")
    timeout_seconds: Seconds | None = Field(None, description="Longest run of one attempt; None is unlimited.")
    delay_seconds: Annotated[float, Ge(0), Le(LONGEST_DELAY_SECONDS)] = Field(
        0, description="Runnable this much later."
    )
    run_at: datetime | None = Field(None, description="Runnable from this moment on, timezone-aware; wins over delay.")
    deadline_seconds: Seconds | None = Field(None, description="Must have ended this long after its spawn, or fails.")
    unique_key: Label | None = Field(None, description="One unfinished job of the kind may have it.")
    unique_seconds: Seconds | None = Field(
        None, description="The unique_key keeps others out for so long after the spawn; None is as long as it spans."
    )
    unique_statuses: Annotated[tuple[Status, ...], MinLen(1)] | None = Field(
        None,
        description="Statuses in which a job holds its unique_key; None is unfinished, with a window completed too.",
    )
    on_conflict: OnConflict = Field(OnConflict.RETURN, description="What a spawn does if its unique_key is held.")
    concurrency_key: Label | None = Field(None, description="Jobs with one key share the limit below, on all nodes.")
    concurrency_limit: Annotated[int, Ge(1), Le(LARGEST_LIMIT)] = Field(
        1, description="How many jobs with the concurrency_key may run at a time."
    )
    result_ttl_seconds: Seconds | None = Field(None, description="How long the result is kept after the job's end.")
    callback_url: str | None = Field(None, description="Told by an HTTP POST when the job has ended, however.")
    owner: Label | None = Field(None, description="On whose behalf, for listings and quotas.")
    tags: Annotated[tuple[Label, ...], MaxLen(50)] = Field((), description="Labels for listings.")
    metadata: dict[str, JsonValue] = Field(default_factory=dict, description="JSON kept with the job.")
    hold: bool = Field(False, description="Record it as `created`; it is queued when released.")

    @field_validator("queue")
    @classmethod
    def _queue_has_a_name(cls, queue: str) -> str:
        return check_queue_name(queue)

    @field_validator("run_at")
    @classmethod
    def _run_at_has_a_zone(cls, run_at: datetime | None) -> datetime | None:
        if run_at is not None and run_at.tzinfo is None:
            raise ValueError(f"got {run_at!r} without a time zone; write datetime(..., tzinfo=UTC)")
        return run_at

    @field_validator("metadata")
    @classmethod
    def _metadata_is_storable(cls, metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
        # Raises a ValueError for lone surrogates, which no JSON column takes.
        json.dumps(metadata, ensure_ascii=False).encode()
        return metadata

    def override(self, options: Mapping[str, Any]) -> SpawnOptions:
        """Return these options with some replaced.

        Raises:
            ConfigurationError: an option is unknown or out of bounds; names it, what came and what was expected.
        """
        if not options:
            return self
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        try:
            return SpawnOptions.model_validate({**kept, **options})
        except pydantic.ValidationError as error:
            details = "; ".join(
                f"{'.'.join(map(str, detail['loc']))}: got {type(detail['input']).__name__} "
                f"{str(detail['input'])[:80]!r}, {detail['msg']}"
                for detail in error.errors(include_url=False)
            )
            raise ConfigurationError(f"options: {details}. Known options: {', '.join(OPTION_NAMES)}") from error


OPTION_NAMES: Final = tuple(sorted(SpawnOptions.model_fields))
"""The names that ``spawn`` takes as options, unless the job has a parameter of that name."""
