"""Gathering the requests of jobs into batches. The leader does it, beside the poller."""

from __future__ import annotations

import logging

from callboard.actors.errors import ConfigurationError
from callboard.actors.jobs.identifier import uuid7

from .ports import BatchStore, LlmRequestStore
from .provider import BatchProvider
from .providers import Providers
from .submitting import Fence, Submission

_log = logging.getLogger(__name__)


class LlmRequestGatherer:
    """Makes batches of what waits, and submits them; ``gather`` is one turn.

    A batch is recorded, with its requests assigned to it, in one transaction and before anything is sent. What happens
    from then on is the poller's: also that a submission of which nobody heard is paid for once.

    Args:
        requests: what waits.
        batches: where the batches are.
        providers: who runs them.
        fence: returns the term under which to write.
        request_timeout_seconds: of one request to a provider.
        size_limit_bytes: of one batch, where the provider's own is not lower.
        actor: who does it.
    """

    def __init__(
        self,
        requests: LlmRequestStore,
        batches: BatchStore,
        providers: Providers,
        fence: Fence,
        *,
        request_timeout_seconds: float,
        size_limit_bytes: int,
        actor: str,
    ) -> None:
        self._requests = requests
        self._batches = batches
        self._providers = providers
        self._fence = fence
        self._submission = Submission(batches, request_timeout_seconds)
        self._size_limit_bytes = size_limit_bytes
        self._actor = actor

    async def gather(self) -> None:
        """Submit everything that waits, for each provider until one of its batches is not confirmed."""
        self._fence()
        for name in await self._requests.providers():
            try:
                provider = await self._providers.get(name)
            except ConfigurationError as error:  # this node lacks the SDK or the key; another one may have it
                _log.error("requests for %s cannot be submitted here, and wait: %s", name, error)
                continue
            while await self._submit_one(name, provider):
                pass

    async def _submit_one(self, name: str, provider: BatchProvider) -> bool:
        """Submit one batch; tell whether there may be another one."""
        batch_id = uuid7()
        gathered = await self._requests.gather(
            batch_id,
            name,
            provider.endpoints[0] if provider.endpoints else None,
            provider.limits.at_most(self._size_limit_bytes),
            grace_seconds=self._submission.grace_seconds,
            actor=self._actor,
            term=self._fence(),
        )
        batch = await self._batches.get(batch_id) if gathered else None
        if batch is None:
            return False
        _log.info("batch %s: %d requests of jobs go to %s", batch_id, gathered, name)
        return await self._submission.send(provider, batch, self._fence) is None
