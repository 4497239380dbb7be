"""Whether requests may be sent as a batch, and how they are divided into several. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from callboard.actors.errors import InvalidArguments, InvalidBatch

from .provider import BatchLimits
from .types import BatchRequest, NewItem

CUSTOM_ID_CHARACTERS: Final = 200
ENVELOPE_BYTES: Final = 200
"""What a provider's format adds to one request: its name there (42 characters), the endpoint, quotes and braces."""


def validate(requests: Iterable[BatchRequest | Mapping[str, Any]]) -> list[NewItem]:
    """Return requests as they are recorded.

    Raises:
        InvalidBatch: there are none, or one is malformed; the message names its position and what to do.
    """
    items: list[NewItem] = []
    positions: dict[str, int] = {}
    for position, request in enumerate(requests):
        custom_id, params = _parts(position, request)
        if custom_id in positions:
            raise InvalidBatch(
                f"requests {positions[custom_id]} and {position} have the same custom_id {custom_id!r}; "
                f"give each request of a batch one of its own"
            )
        positions[custom_id] = position
        items.append(NewItem(position, custom_id, _json(position, custom_id, params)))
    if not items:
        raise InvalidBatch("got no requests; expected at least one")
    return items


def _parts(position: int, request: object) -> tuple[str, Mapping[str, Any]]:
    if isinstance(request, Mapping):
        unknown = sorted(set(request) - {"custom_id", "params"})
        if unknown:
            raise InvalidBatch(f"request {position} has unknown keys {unknown}; expected 'custom_id' and 'params'")
        custom_id, params = request.get("custom_id"), request.get("params")
    elif isinstance(request, BatchRequest):
        custom_id, params = request.custom_id, request.params
    else:
        raise InvalidBatch(
            f"request {position}: got {type(request).__name__}, expected a BatchRequest or a mapping with "
            f"'custom_id' and 'params'"
        )
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= CUSTOM_ID_CHARACTERS or not custom_id.isprintable():
        raise InvalidBatch(
            f"request {position}: custom_id: got {custom_id!r}, expected a text of 1 to {CUSTOM_ID_CHARACTERS} "
            f"printable characters"
        )
    if not isinstance(params, Mapping) or not params:
        raise InvalidBatch(
            f"request {position} ({custom_id!r}): params: got {type(params).__name__}, expected the body of a request, "
            f"a mapping such as {{'model': ..., 'messages': [...]}}"
        )
    return custom_id, params


def _json(position: int, custom_id: str, params: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(params), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidBatch(f"request {position} ({custom_id!r}): params is not JSON: {error}") from error


def size_bytes(item: NewItem) -> int:
    """Return the most that a request takes of a batch's size."""
    return len(item.params) + ENVELOPE_BYTES  # JSON by the json module is ASCII


def require_fits(items: Sequence[NewItem], provider: str, limits: BatchLimits) -> None:
    """Accept what one batch may hold.

    Raises:
        InvalidBatch: it is more; the message names the limit.
    """
    if len(items) > limits.max_requests:
        raise InvalidBatch(
            f"got {len(items)} requests; a batch of {provider} holds at most {limits.max_requests}: "
            f"submit_batches divides them into several batches"
        )
    size = sum(map(size_bytes, items))
    if size > limits.max_bytes:
        raise InvalidBatch(
            f"got requests of {size} bytes; a batch of {provider} holds at most {limits.max_bytes} bytes: "
            f"submit_batches divides them into several batches"
        )


def fitting(items: Sequence[NewItem], limits: BatchLimits) -> list[NewItem]:
    """Return as many of the first requests as one batch may hold; at least the first, which its provider may refuse."""
    size, count = 0, 0
    for item in items[: limits.max_requests]:
        size += size_bytes(item)
        if count and size > limits.max_bytes:
            break
        count += 1
    return list(items[:count])


def encode_params(params: object, call: str) -> str:
    """Return the body of a request as JSON text.

    Args:
        params: the body.
        call: what was called, for the message.

    Raises:
        InvalidArguments: it is no mapping, is empty, or is not JSON.
    """
    if not isinstance(params, Mapping) or not params:
        raise InvalidArguments(
            f"{call}: request: got {type(params).__name__}, expected the body of a request, a mapping such as "
            f"{{'model': ..., 'messages': [...]}}"
        )
    try:
        return json.dumps(dict(params), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"{call}: request is not JSON: {error}") from error


def divide(items: Sequence[NewItem], provider: str, limits: BatchLimits) -> Iterator[list[NewItem]]:
    """Yield the requests in as few batches as their order allows, each within the limits, positions from 0.

    Raises:
        InvalidBatch: one request alone is larger than a batch may be.
    """
    batch: list[NewItem] = []
    batch_bytes = 0
    for item in items:
        item_bytes = size_bytes(item)
        if item_bytes > limits.max_bytes:
            raise InvalidBatch(
                f"request {item.position} ({item.custom_id!r}) has {item_bytes} bytes; a batch of {provider} holds at "
                f"most {limits.max_bytes} bytes"
            )
        if batch and (len(batch) == limits.max_requests or batch_bytes + item_bytes > limits.max_bytes):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(item._replace(position=len(batch)))
        batch_bytes += item_bytes
    if batch:
        yield batch
