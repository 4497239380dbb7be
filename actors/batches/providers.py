"""The providers that a process can reach, made when first asked for."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from typing import Final, cast

from callboard.actors.errors import ConfigurationError

from .provider import BatchProvider

_OFFICIAL: Final = {
    "anthropic": ("anthropic_provider", "AnthropicProvider"),
    "openai": ("openai_provider", "OpenAIProvider"),
}
"""Module beside this one and class, by name; each needs the extra of its name."""


class Providers:
    """The official providers, and those that the program brings along.

    Args:
        others: by name; one may take the place of an official one.
        request_timeout_seconds: of one request, for the official ones.
    """

    def __init__(self, others: Mapping[str, BatchProvider], *, request_timeout_seconds: float) -> None:
        self._made: dict[str, BatchProvider] = dict(others)
        self._brought = frozenset(others)
        self._request_timeout_seconds = request_timeout_seconds
        self._making = asyncio.Lock()

    def require_known(self, name: str) -> None:
        """Accept the name of a provider.

        Raises:
            ConfigurationError: there is none of this name.
        """
        if name not in _OFFICIAL and name not in self._made:
            names = ", ".join(sorted({*_OFFICIAL, *self._made}))
            raise ConfigurationError(
                f"provider: got {name!r}, expected one of {names}, or one that was given to Runtime(providers=...)"
            )

    async def get(self, name: str) -> BatchProvider:
        """Return a provider.

        Raises:
            ConfigurationError: there is none of this name, its SDK is not installed, or it has no key.
        """
        self.require_known(name)
        async with self._making:
            if name not in self._made:
                module, class_name = _OFFICIAL[name]
                # Importing an SDK takes a second, for which the event loop has no time.
                try:
                    loaded = await asyncio.to_thread(importlib.import_module, f"{__package__}.{module}")
                except ModuleNotFoundError as error:
                    raise ConfigurationError(
                        f"batches of {name} need its SDK, which is not installed ({error}): "
                        f"pip install 'callboard[{name}]'"
                    ) from error
                make = getattr(loaded, class_name)
                self._made[name] = cast(BatchProvider, make(request_timeout_seconds=self._request_timeout_seconds))
        return self._made[name]

    async def close(self) -> None:
        """Close the connections of those that were made here; who brought others along closes them."""
        for name in sorted(self._made.keys() - self._brought):
            await self._made.pop(name).close()
