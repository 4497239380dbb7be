"""What the official SDKs raise, as failures of a provider. Both come out of one generator and look alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

import httpx2

from .http_status import failure_kind, in_doubt, retry_after_seconds
from .provider import FailureKind, ProviderFailure


@contextlib.contextmanager
def provider_failures(sdk: ModuleType, operation: str, *, may_be_done: bool = False) -> Iterator[None]:
    """Turn errors of an SDK, and of its connections, into ``ProviderFailure``.

    Args:
        sdk: the module ``anthropic`` or ``openai``.
        operation: what was tried; every message begins with it.
        may_be_done: whether what was tried has an effect, about which an error can leave doubt.
    """
    try:
        yield
    except sdk.APIStatusError as error:
        status = error.status_code
        raise ProviderFailure(
            f"{operation}: {status}: {error.message}",
            kind=failure_kind(status),
            retry_after_seconds=retry_after_seconds(error.response.headers),
            in_doubt=may_be_done and in_doubt(status),
        ) from error
    except sdk.APIConnectionError as error:
        never_sent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise ProviderFailure(
            f"{operation}: {_cause(error)}", kind=FailureKind.PASSING, in_doubt=may_be_done and not never_sent
        ) from error
    except (httpx2.HTTPError, sdk.APIError) as error:  # a stream that broke off, an answer that makes no sense
        raise ProviderFailure(
            f"{operation}: {_cause(error)}", kind=FailureKind.PASSING, in_doubt=may_be_done
        ) from error
    except TypeError as error:
        if "authentication" not in str(error):
            raise
        raise ProviderFailure(f"{operation}: {error}", kind=FailureKind.CREDENTIALS) from error


def _cause(error: BaseException) -> str:
    """Return what happened; an SDK's own text says no more than "Connection error."."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
