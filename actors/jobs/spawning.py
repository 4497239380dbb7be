"""From a call to a row: validates everything before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import pydantic_core

from callboard.actors.callbacks.target import parse_url
from callboard.actors.errors import ConfigurationError, InvalidArguments, PayloadTooLarge

from .definition import ConfiguredJob, JobDefinition
from .options import OPTION_NAMES, SpawnOptions
from .state import Status
from .types import NewJob
from .uniqueness import spanned_statuses

Spawnable: TypeAlias = JobDefinition[Any, Any] | ConfiguredJob[Any, Any]

_NO_ID: Final = UUID(int=0)


CHUNK: Final = 1_000
"""So many jobs at most are made and inserted together, and share a row of the history: whoever reads that of one reads
it for all."""


class Bulk(NamedTuple):
    """Many calls of one job with the same options, to be spawned together."""

    kind: str
    queue: str
    chunk_count: int
    """How many chunks there are: full ones, but for the last."""
    chunks: Iterator[list[NewJob]]
    """Their rows. Asking for one raises ``InvalidArguments`` or ``PayloadTooLarge`` where a call of it does not fit."""


class Spawning:
    """Makes rows of calls.

    Args:
        new_ids: makes so many job ids, in their order.
        payload_limit_bytes: largest serialized arguments of one job.
        callback_trusted_hosts: hosts that callbacks may reach without TLS, and at private addresses; default none.
    """

    def __init__(
        self,
        new_ids: Callable[[int], list[UUID]],
        *,
        payload_limit_bytes: int,
        callback_trusted_hosts: Collection[str] = (),
    ) -> None:
        self._new_ids = new_ids
        self._callback_trusted_hosts = callback_trusted_hosts
        self._payload_limit_bytes = payload_limit_bytes

    def one(self, job: Spawnable, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        """Return the row of one call.

        Keywords that are parameters of the job's function are its arguments; of the others, those that name an option
        are options.

        Raises:
            InvalidArguments, ConfigurationError, PayloadTooLarge: what came does not fit.
        """
        return self.call(job, args, kwargs)[0]

    def call(self, job: Spawnable, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[NewJob, SpawnOptions]:
        """Return the row of one call, as ``one`` does, and the options that it was made with."""
        definition = _definition(job)
        parameters = definition.signature.names
        given = {name: value for name, value in kwargs.items() if name in OPTION_NAMES and name not in parameters}
        arguments = {name: value for name, value in kwargs.items() if name not in given} if given else kwargs
        options = job.spawn_options.override(given)
        self._check_callback(options)
        text = self._within_limit(definition, definition.signature.encode(args, arguments))
        return new_row(self._new_ids(1)[0], definition.kind, text, options, _metadata(options)), options

    def many(
        self, job: Spawnable, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]], options: Mapping[str, Any]
    ) -> list[NewJob]:
        """Return the rows of many calls with the same options; each call is a tuple or a mapping of arguments.

        Raises:
            InvalidArguments, ConfigurationError, PayloadTooLarge: what came does not fit; names the call's position.
        """
        return list(chain.from_iterable(self.bulk(job, list(calls), options).chunks))

    def bulk(
        self, job: Spawnable, calls: Sequence[tuple[Any, ...] | Mapping[str, Any]], options: Mapping[str, Any]
    ) -> Bulk:
        """Return what ``many`` does in chunks, of which each is made when it is asked for.

        Raises:
            ConfigurationError: the options do not fit.
        """
        definition = _definition(job)
        chosen = job.spawn_options.override(options)
        self._check_callback(chosen)
        if chosen.unique_key is not None:
            raise ConfigurationError(
                "spawn_many gives every job the same options; a unique_key fits one job: use spawn"
            )
        alike = new_row(_NO_ID, definition.kind, "", chosen, _metadata(chosen))
        starts = range(0, len(calls), CHUNK)
        chunks = (self._chunk(definition, alike, calls[start : start + CHUNK], start) for start in starts)
        return Bulk(alike.kind, alike.queue, len(starts), chunks)

    def _chunk(
        self,
        definition: JobDefinition[Any, Any],
        alike: NewJob,
        calls: Sequence[tuple[Any, ...] | Mapping[str, Any]],
        start: int,
    ) -> list[NewJob]:
        encode = definition.signature.encode
        texts = []
        for position, call in enumerate(calls, start):
            args, kwargs = _unpack(position, call)
            try:
                text = self._within_limit(definition, encode(args, kwargs))
            except (InvalidArguments, PayloadTooLarge) as error:
                raise type(error)(f"call {position}: {error}") from error
            texts.append(text)
        kind, queue, others = alike.kind, alike.queue, alike[4:]
        ids = self._new_ids(len(texts))
        return [NewJob(job_id, kind, queue, text, *others) for job_id, text in zip(ids, texts, strict=True)]

    def _check_callback(self, options: SpawnOptions) -> None:
        if options.callback_url is None:
            return
        try:
            parse_url(options.callback_url, self._callback_trusted_hosts)
        except ValueError as error:
            raise ConfigurationError(f"callback_url: got {options.callback_url!r}: {error}") from error

    def _within_limit(self, definition: JobDefinition[Any, Any], text: str) -> str:
        limit = self._payload_limit_bytes
        if len(text) > limit // 4:  # a character has at most 4 bytes
            size = len(text.encode())
            if size > limit:
                raise PayloadTooLarge(
                    f"the arguments of {definition.kind} take {size:,} bytes of JSON; at most {limit:,} are stored "
                    f"(CALLBOARD_PAYLOAD_LIMIT_BYTES). Store the data elsewhere and pass where it is"
                )
        return text


def _definition(job: Spawnable) -> JobDefinition[Any, Any]:
    if not isinstance(job, JobDefinition | ConfiguredJob):
        raise ConfigurationError(
            f"spawn expects a job, got {type(job).__name__} {job!r}; decorate the function with @job"
        )
    return job.definition


def _metadata(options: SpawnOptions) -> str | None:
    return pydantic_core.to_json(options.metadata).decode() if options.metadata else None


def _unpack(position: int, call: object) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(call, tuple):
        return call, {}
    if isinstance(call, Mapping):
        return (), call
    raise InvalidArguments(
        f"call {position}: expected a tuple or a mapping of arguments, got {type(call).__name__}; "
        f"for one argument write (value,)"
    )


def new_row(job_id: UUID, kind: str, arguments: str, options: SpawnOptions, metadata: str | None) -> NewJob:
    """Return the row of one job from validated parts; arguments and metadata as JSON texts."""
    return NewJob(
        id=job_id,
        kind=kind,
        queue=options.queue,
        arguments=arguments,
        status=Status.CREATED if options.hold else Status.PENDING,
        priority=options.priority,
        delay_seconds=options.delay_seconds,
        run_at=options.run_at,
        max_attempts=options.max_attempts,
        timeout_seconds=options.timeout_seconds,
        deadline_seconds=options.deadline_seconds,
        unique_key=options.unique_key,
        owner=options.owner,
        tags=options.tags,
        metadata=metadata,
        concurrency_key=options.concurrency_key,
        concurrency_limit=None if options.concurrency_key is None else options.concurrency_limit,
        unique_statuses=spanned_statuses(options) if options.unique_key is not None else None,
        unique_seconds=options.unique_seconds,
        on_conflict=options.on_conflict,
        result_ttl_seconds=options.result_ttl_seconds,
        callback_url=options.callback_url,
    )
