"""Where a callback may go: rules about URLs, and about the addresses that their hosts turn out to have."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

LONGEST_URL: Final = 2_000
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED_NETWORKS: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's wire server
            "100.64.0.0/10",  # carriers' NAT, and metadata servers within it
            "64:ff9b::/96",  # NAT64: an IPv4 address in disguise
            "64:ff9b:1::/48",
            "2002::/16",  # 6to4, likewise
            "2001::/32",  # Teredo, likewise
            "fec0::/10",
        ),
    )
)
"""What Python takes for global addresses, and what leads, or may lead, into somebody's network."""


class Target(NamedTuple):
    """A URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """With its query, as it is requested."""

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the scheme's own, as in the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str, trusted_hosts: Collection[str]) -> Target:
    """Take a callback's URL apart.

    Args:
        url: of a user.
        trusted_hosts: hosts that may be reached without TLS, and at private addresses.

    Raises:
        ValueError: it may not be called; says why.
    """
    if not isinstance(url, str) or not 0 < len(url) <= LONGEST_URL or not url.isascii() or not url.isprintable():
        raise ValueError(f"expected a URL of at most {LONGEST_URL} printable ASCII characters")
    if " " in url or "\\" in url:
        raise ValueError("a URL has no spaces and no backslashes; encode them")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("expected https://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has a user name or a password; callbacks are signed instead")
    trusted = is_trusted(host, trusted_hosts)
    if parts.scheme == "http" and not trusted:
        raise ValueError(
            "http is readable on the way; use https, or put the host into CALLBOARD_CALLBACK_TRUSTED_HOSTS"
        )
    address = literal(host)
    why = None if address is None or trusted else refusal(address)
    if why is not None:
        raise ValueError(f"{host} is {why}; put it into CALLBOARD_CALLBACK_TRUSTED_HOSTS if it is meant")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path)


def is_trusted(host: str, trusted_hosts: Collection[str]) -> bool:
    """Tell whether an operator vouches for a host, by its name as it stands in the URL."""
    return host.lower() in {trusted.lower().removesuffix(".") for trusted in trusted_hosts}


def literal(host: str) -> Address | None:
    """Return the address that a host is already; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def refusal(address: Address) -> str | None:
    """Say why an address may not be called; None if it may: it is in the public Internet."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:
        return refusal(mapped)
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address, where clouds have their metadata"
    if address.is_multicast or address.is_unspecified:
        return "no address of one host"
    if any(address in network for network in _REFUSED_NETWORKS) or not address.is_global:
        return "not an address of the public Internet"
    return None
