"""Reading results that come as lines of JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from .json_lines import LineSplitter

_log = logging.getLogger(__name__)


async def read_lines(blocks: AsyncIterator[bytes], name: str) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the objects of a stream of JSON lines.

    A line that is none is logged and passed over: its item stays without an outcome, which the count shows, and the
    results are read again. So is what a stream that ends early leaves of its last line.

    Args:
        blocks: the stream.
        name: whose results they are, for the log.
    """
    splitter = LineSplitter()
    async for block in blocks:
        for line in splitter.feed(block):
            if (parsed := _parsed(line, name)) is not None:
                yield parsed
    for line in splitter.end():
        if (parsed := _parsed(line, name)) is not None:
            yield parsed


def _parsed(line: bytes, name: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        _log.error("results of batch %s: a line of %d bytes is not JSON (%s)", name, len(line), error)
        return None
    if not isinstance(parsed, dict):
        _log.error("results of batch %s: a line is no JSON object", name)
        return None
    return parsed
