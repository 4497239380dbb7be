"""Batches and their items, in PostgreSQL."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from callboard.actors.batches.naming import reference, wire_id
from callboard.actors.batches.provider import ProviderBatch
from callboard.actors.batches.state import BatchStatus, ItemStatus, final_status, submitted_status
from callboard.actors.batches.types import (
    BatchNote,
    BatchRecord,
    BatchResult,
    Collected,
    NewBatch,
    Outcome,
    Stray,
    WireRequest,
)

from .batch_statements import BatchStatements
from .controls import Runner
from .fence import require_term
from .literals import copy_field, plain_array, text_array
from .statements import Statements

_Native = psycopg.AsyncConnection[Any]

_COPY_BLOCK_CHARACTERS: Final = 2**20
"""Rows are sent in blocks of about this size."""
_NOTHING: Final = Collected({}, 0, None)


class PostgresBatches:
    """Implements ``BatchStore``.

    Args:
        schema: of the tables.
        run: runs something on a connection of the store's pool.
    """

    def __init__(self, schema: str, run: Runner) -> None:
        self._schema = schema
        self._sql = BatchStatements(schema)
        self._jobs = Statements(schema)
        self._run = run

    async def record(self, batch: NewBatch, *, grace_seconds: float, actor: str) -> None:
        """Record the intent."""

        async def body(connection: _Native) -> None:
            async with connection.transaction():
                await self.record_in(connection, batch, grace_seconds=grace_seconds, actor=actor)

        await self._run("record_batch", body)

    async def record_in(self, connection: _Native, batch: NewBatch, *, grace_seconds: float, actor: str) -> None:
        """Record the intent in a transaction that is open."""
        parameters = {
            "id": batch.id,
            "actor": actor,
            "provider": batch.provider,
            "endpoint": batch.endpoint,
            "total": len(batch.items),
            "grace": grace_seconds,
        }
        cursor = await connection.execute(self._sql.record.native, parameters)
        if cursor.rowcount == 0:
            return  # a repeated call
        async with connection.cursor().copy(self._sql.copy_items.native) as copy:
            async for block in _item_blocks(batch):
                await copy.write(block)

    async def take_submission(
        self, batch_id: UUID, submissions: int, *, grace_seconds: float, term: int | None = None
    ) -> bool:
        """Set out to submit it (again)."""
        parameters = {"id": batch_id, "submissions": submissions, "grace": grace_seconds}

        async def body(connection: _Native) -> bool:
            async with connection.transaction():
                await self.require(connection, term)
                return (await connection.execute(self._sql.take_submission.native, parameters)).rowcount == 1

        return await self._run("take_batch_submission", body)

    async def confirm(self, batch_id: UUID, answer: ProviderBatch, *, term: int | None = None) -> BatchRecord | None:
        """The provider has it."""

        async def body(connection: _Native) -> BatchRecord | None:
            async with connection.transaction():
                await self.require(connection, term)
                batch = await self._locked(connection, batch_id)
                if batch is None or batch.status.is_terminal or batch.provider_batch_id is not None:
                    return batch
                parameters = {
                    "id": batch_id,
                    "provider_batch_id": answer.id,
                    "status": submitted_status(cancel_requested=batch.cancel_requested),
                    "provider_status": answer.status,
                    "counts": json.dumps(dict(answer.counts)),
                    "expires_at": answer.expires_at,
                }
                await connection.execute(self._sql.confirm.native, parameters)
                await self._announce(connection, batch_id)
                return await self._locked(connection, batch_id)

        return await self._run("confirm_batch", body)

    async def note(
        self, batch_id: UUID, note: BatchNote, *, status: BatchStatus | None = None, term: int | None = None
    ) -> bool:
        """Write what a poll found out."""
        parameters = {
            "id": batch_id,
            **note._asdict(),
            "provider_counts": None if note.provider_counts is None else json.dumps(dict(note.provider_counts)),
            "last_error": None if note.last_error is None else _storable(note.last_error),
            "status": status,
        }

        async def body(connection: _Native) -> bool:
            async with connection.transaction():
                await self.require(connection, term)
                return (await connection.execute(self._sql.note.native, parameters)).rowcount == 1

        return await self._run("note_batch", body)

    async def collect(
        self,
        batch_id: UUID,
        outcomes: Sequence[Outcome],
        strays: Sequence[Stray],
        *,
        ended_as: BatchStatus,
        resubmissions: int = 0,
        term: int | None = None,
    ) -> Collected:
        """Record outcomes, each item's first one only; end the batch with the last."""
        first = {outcome.position: outcome for outcome in reversed(outcomes)}
        ordered = [first[position] for position in sorted(first)]
        positions = plain_array([str(outcome.position) for outcome in ordered])
        parameters = {
            "id": batch_id,
            "positions": positions,
            "statuses": plain_array([outcome.status for outcome in ordered]),
            "results": text_array([outcome.result for outcome in ordered]),
            "errors": text_array([outcome.error for outcome in ordered]),
        }
        others = {
            "id": batch_id,
            "names": text_array([_storable(stray.wire_id) for stray in strays]),
            "contents": text_array([stray.content for stray in strays]),
        }

        async def body(connection: _Native) -> Collected:
            async with connection.transaction():
                await self.require(connection, term)
                batch = await self._locked(connection, batch_id)
                if batch is None or batch.status.is_terminal:
                    return _NOTHING
                updated: Counter[ItemStatus] = Counter()
                put_back = 0
                if ordered:
                    cursor = await connection.execute(self._sql.collect.native, parameters)
                    settled = await cursor.fetchall()
                    updated.update(ItemStatus(status) for status, _ in settled)
                    again = [position for _, position in settled if first[position].again]
                    most = 0 if batch.cancel_requested else resubmissions
                    put_back = await self._wake_askers(connection, batch_id, positions, again, most)
                kept = (await connection.execute(self._sql.keep_strays.native, others)).rowcount if strays else 0
                left = batch.total_items - batch.collected_items - updated.total()
                counts = {"id": batch_id, "updated": updated.total(), "strays": kept}
                await connection.execute(self._sql.count_collected.native, counts)
                if left:
                    return Collected(updated, left, None, put_back)
                return Collected(updated, 0, await self._finish(connection, batch, ended_as, None), put_back)

        return await self._run("collect_batch", body)

    async def end(
        self,
        batch_id: UUID,
        status: BatchStatus,
        *,
        leftover: ItemStatus,
        error: str | None,
        resubmissions: int = 0,
        term: int | None = None,
    ) -> Collected:
        """End a batch as it is."""
        message = None if error is None else _storable(error)
        item_error = None if message is None else json.dumps({"type": "batch_error", "message": message})

        async def body(connection: _Native) -> Collected:
            async with connection.transaction():
                await self.require(connection, term)
                batch = await self._locked(connection, batch_id)
                if batch is None or batch.status.is_terminal:
                    return _NOTHING
                parameters = {"id": batch_id, "status": leftover, "error": item_error}
                cursor = await connection.execute(self._sql.settle_rest.native, parameters)
                settled = [position for (position,) in await cursor.fetchall()]
                most = 0 if batch.cancel_requested else resubmissions
                put_back = await self._wake_askers(connection, batch_id, None, settled, most)
                counts = {"id": batch_id, "updated": len(settled), "strays": 0}
                await connection.execute(self._sql.count_collected.native, counts)
                ended = await self._finish(connection, batch, status, message)
                return Collected({leftover: len(settled)}, 0, ended, put_back)

        return await self._run("end_batch", body)

    async def _wake_askers(
        self, connection: _Native, batch_id: UUID, positions: str | None, again: Sequence[int], most: int
    ) -> int:
        """Queue the jobs that have waited for what was just settled; put back first what is worth another try.

        All in the same transaction. Returns how many requests were put back.
        """
        cursor = await connection.execute(self._sql.lock_askers.native, {"id": batch_id, "positions": positions})
        askers = plain_array([job_id.hex for (job_id,) in await cursor.fetchall()])
        if askers == plain_array([]):
            return 0
        put_back = 0
        if again and most:
            values = {"id": batch_id, "ids": askers, "positions": plain_array(map(str, again)), "most": most}
            put_back = (await connection.execute(self._sql.put_back.native, values)).rowcount
        cursor = await connection.execute(self._jobs.wake_askers.native, {"ids": askers})
        queues = {queue for (queue,) in await cursor.fetchall()}
        if queues:
            payloads = text_array([f"runnable:{queue}" for queue in sorted(queues)])
            await connection.execute(self._jobs.notify.native, {"payloads": payloads})
        return put_back

    async def _finish(
        self, connection: _Native, batch: BatchRecord, ended_as: BatchStatus, error: str | None
    ) -> BatchStatus:
        status = final_status(batch.status, ended_as, cancel_requested=batch.cancel_requested)
        await connection.execute(self._sql.finish.native, {"id": batch.id, "status": status, "error": error})
        await self._announce(connection, batch.id)
        return status

    async def request_cancel(self, batch_id: UUID, *, actor: str) -> tuple[BatchRecord, bool] | None:
        """Cancel a batch."""

        async def body(connection: _Native) -> tuple[BatchRecord, bool] | None:
            async with connection.transaction():
                batch = await self._locked(connection, batch_id)
                if batch is None:
                    return None
                if batch.status.is_terminal or batch.cancel_requested:
                    return batch, False
                status = BatchStatus.CANCELLING if batch.status is BatchStatus.RUNNING else batch.status
                parameters = {"id": batch_id, "status": status, "actor": actor}
                await connection.execute(self._sql.request_cancel.native, parameters)
                await self._announce(connection, batch_id)
                changed = await self._locked(connection, batch_id)
                assert changed is not None
                return changed, True

        return await self._run("cancel_batch", body)

    async def due(self, *, limit: int | None, without: Collection[str] = ()) -> list[BatchRecord]:
        """Read the batches whose time has come, the ones not polled for the longest first."""
        parameters = {"limit": limit, "without": text_array(sorted(without))}
        return await self._records("due_batches", self._sql.due.native, parameters)

    async def get(self, batch_id: UUID) -> BatchRecord | None:
        """Read one batch."""
        found = await self._records("get_batch", self._sql.get.native, {"id": batch_id})
        return found[0] if found else None

    async def list_batches(
        self, *, statuses: Collection[BatchStatus] = (), provider: str | None = None, limit: int, before: UUID | None
    ) -> list[BatchRecord]:
        """List batches, newest first."""
        parameters = {
            "statuses": list(map(str, statuses)) or None,
            "provider": provider,
            "limit": limit,
            "before": before,
        }
        return await self._records("list_batches", self._sql.list.native, parameters)

    async def requests(self, batch_id: UUID) -> list[WireRequest]:
        """Read what is to be submitted."""
        name = reference(batch_id)
        rows = await self._rows("batch_requests", self._sql.requests.native, {"id": batch_id})
        return [WireRequest(wire_id(name, position), params) for position, params in rows]

    async def results(self, batch_id: UUID, *, after: int = -1, limit: int) -> list[BatchResult]:
        """Read items and their outcomes, in order."""
        parameters = {"id": batch_id, "after": after, "limit": limit}
        rows = await self._rows("batch_results", self._sql.results.native, parameters)
        return [
            BatchResult(custom_id, ItemStatus(status), _plain(result), _plain(error))
            for custom_id, status, result, error in rows
        ]

    async def known(self, provider: str, provider_batch_ids: Collection[str]) -> set[str]:
        """Return which names belong to batches here."""
        parameters = {"provider": provider, "names": text_array(sorted(provider_batch_ids))}
        return {name for (name,) in await self._rows("known_batches", self._sql.known.native, parameters)}

    async def require(self, connection: _Native, term: int | None) -> None:
        """Refuse what a leader of another term writes."""
        if term is not None:
            await require_term(connection, self._schema, term)

    async def _announce(self, connection: _Native, batch_id: UUID) -> None:
        await connection.execute(self._sql.announce.native, {"id": str(batch_id)})

    async def _locked(self, connection: _Native, batch_id: UUID) -> BatchRecord | None:
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self._sql.lock.native, {"id": batch_id})
            row = await cursor.fetchone()
        return None if row is None else _record(row)

    async def _records(self, operation: str, statement: bytes, parameters: dict[str, Any]) -> list[BatchRecord]:
        async def body(connection: _Native) -> list[BatchRecord]:
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement, parameters)
                return [_record(row) for row in await cursor.fetchall()]

        return await self._run(operation, body)

    async def _rows(self, operation: str, statement: bytes, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        async def body(connection: _Native) -> list[tuple[Any, ...]]:
            return await (await connection.execute(statement, parameters)).fetchall()

        return await self._run(operation, body)


async def _item_blocks(batch: NewBatch) -> AsyncIterator[str]:
    prefix = f"{batch.id}\t"
    block: list[str] = []
    characters = 0
    for item in batch.items:
        row = f"{prefix}{item.position}\t{copy_field(item.custom_id)}\t{copy_field(item.params)}\n"
        block.append(row)
        characters += len(row)
        if characters >= _COPY_BLOCK_CHARACTERS:
            yield "".join(block)
            block, characters = [], 0
    yield "".join(block)


def _record(row: dict[str, Any]) -> BatchRecord:
    return BatchRecord(**row | {"status": BatchStatus(row["status"]), "provider_counts": row["provider_counts"] or {}})


def _plain(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _storable(text: str) -> str:
    """Return a text of somebody else's as PostgreSQL can store it."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
