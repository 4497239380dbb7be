"""What a worker says that cannot sign callbacks, though some may be due."""

from __future__ import annotations

import logging

from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.definition import JobRegistry

_log = logging.getLogger(__name__)


async def warn_of_unsigned_callbacks(registry: JobRegistry, store: JobStore) -> None:
    """Warn where jobs of the code have a callback, or callbacks wait already: without a secret nobody delivers them.

    Args:
        registry: the jobs that the worker knows.
        store: where callbacks wait.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    kinds = [kind for kind in registry.kinds() if registry.require(kind).spawn_options.callback_url is not None]
    if kinds:
        why = f"jobs of {', '.join(kinds)} have a callback_url"
    elif await store.callbacks.read(CallbackState.PENDING, limit=1):
        why = "there are callbacks to deliver"
    else:
        return
    _log.warning(
        "%s, but this worker has no CALLBOARD_CALLBACK_SECRET and delivers none: they wait for a worker that has one",
        why,
        extra={"event": "callbacks.unsigned"},
    )
