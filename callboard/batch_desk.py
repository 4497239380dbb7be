"""Submitting LLM batches, and asking about them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from callboard.actors.batches.ports import BatchStore, LlmRequestStore
from callboard.actors.batches.provider import BatchProvider, ProviderFailure
from callboard.actors.batches.providers import Providers
from callboard.actors.batches.requests import divide, require_fits, validate
from callboard.actors.batches.submitting import Submission
from callboard.actors.batches.types import BatchNote, BatchRecord, BatchRequest, BatchResult, NewBatch, NewItem
from callboard.actors.errors import BatchNotFound, ConfigurationError, InvalidBatch
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.types import AttemptKey
from callboard.actors.settings import Settings

_log = logging.getLogger(__name__)

Requests = Iterable[BatchRequest | Mapping[str, Any]]


class BatchDesk:
    """What a runtime does with batches.

    Args:
        store: where they are.
        requests: what jobs have asked.
        providers: who runs them.
        settings: limits, and whether anybody polls.
        actor: who does it.
    """

    def __init__(
        self, store: BatchStore, requests: LlmRequestStore, providers: Providers, settings: Settings, *, actor: str
    ) -> None:
        self._store = store
        self._requests = requests
        self._providers = providers
        self._settings = settings
        self._actor = actor
        self._submission = Submission(store, settings.llm_request_timeout_seconds)

    async def ask(self, attempt: AttemptKey, key: str, name: str, params: str) -> BatchResult | None:
        """Record what a job asks, for the leader to submit; return the outcome, if there is one."""
        self._require_polling()
        provider = await self._providers.get(name)
        limits = provider.limits.at_most(self._settings.request_size_limit_bytes)
        require_fits([NewItem(0, key, params)], name, limits)
        return await self._requests.ask(attempt, key, name, params)

    def _require_polling(self) -> None:
        if not self._settings.enable_batch_job_polling:
            raise ConfigurationError(
                "batches are not polled: nobody would ever collect the results. Set "
                "CALLBOARD_ENABLE_BATCH_JOB_POLLING=true here and for the workers"
            )

    async def submit(self, name: str, requests: Requests, *, endpoint: str | None, several: bool) -> list[BatchRecord]:
        """Record batches and submit them; see ``Runtime.submit_batch`` and ``submit_batches``."""
        self._require_polling()
        items = validate(requests)
        provider = await self._providers.get(name)
        chosen = _endpoint(name, provider, endpoint)
        limits = provider.limits.at_most(self._settings.request_size_limit_bytes)
        if several:
            parts = list(divide(items, name, limits))
        else:
            require_fits(items, name, limits)
            parts = [items]
        batches = [NewBatch(uuid7(), name, chosen, tuple(part)) for part in parts]
        return [await self._submit_one(provider, batch) for batch in batches]

    async def _submit_one(self, provider: BatchProvider, new: NewBatch) -> BatchRecord:
        await self._store.record(new, grace_seconds=self._submission.grace_seconds, actor=self._actor)
        batch = await self.require(new.id)
        await self._submission.send(provider, batch)
        return await self.require(new.id)

    async def cancel(self, batch_id: UUID) -> bool:
        """Cancel a batch; False if it had ended or was cancelled before."""
        answer = await self._store.request_cancel(batch_id, actor=self._actor)
        if answer is None:
            raise BatchNotFound(batch_id)
        batch, cancelled = answer
        if cancelled and batch.provider_batch_id is not None:
            await self._tell(batch, batch.provider_batch_id)
        return cancelled

    async def _tell(self, batch: BatchRecord, provider_batch_id: str) -> None:
        """Tell the provider at once; if that fails, the poller does."""
        try:
            provider = await self._providers.get(batch.provider)
            await provider.cancel(provider_batch_id)
        except (ProviderFailure, ConfigurationError) as failure:
            _log.warning("batch %s: cancelled here, but not at %s yet: %s", batch.id, batch.provider, failure)
            return
        await self._store.note(batch.id, BatchNote(cancel_sent=True, failures=batch.failures))

    async def require(self, batch_id: UUID) -> BatchRecord:
        """Read a batch.

        Raises:
            BatchNotFound: there is none.
        """
        record = await self._store.get(batch_id)
        if record is None:
            raise BatchNotFound(batch_id)
        return record


def _endpoint(name: str, provider: BatchProvider, endpoint: str | None) -> str | None:
    if endpoint is None:
        return provider.endpoints[0] if provider.endpoints else None
    if endpoint not in provider.endpoints:
        expected = ", ".join(provider.endpoints) or "none, as there is nothing to choose"
        raise InvalidBatch(f"endpoint: got {endpoint!r}; {name} takes {expected}")
    return endpoint
