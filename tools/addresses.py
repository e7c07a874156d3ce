"""Which addresses may be connected to: public ones, and what was allowed by name.

Private, loopback, link-local (cloud metadata lives there), multicast and reserved addresses are
refused, also where an IPv6 address carries an IPv4 one (mapped, 6to4, Teredo, NAT64).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import anyio

from ryzanstein.errors import ConnectionFailed, ToolError

__all__ = ["is_public", "public_address"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


def is_public(text: str) -> bool:
    """Tells whether an address, and every address inside it, is a public one."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(_plain_public(part) for part in (address, *_carried(address)))


def _plain_public(address: _Address) -> bool:
    carrier = isinstance(address, ipaddress.IPv6Address) and any(_carried(address))
    if carrier and address not in _NAT64_LOCAL:
        return True  # the address inside decides
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _carried(address: _Address) -> Iterator[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    low = int(address) & 0xFFFFFFFF
    if address in _NAT64 or int(address) >> 32 == 0:
        yield ipaddress.IPv4Address(low)


async def public_address(host: str, port: int, allowed: frozenset[str]) -> str:
    """Resolves a host and returns the one address that is to be connected to.

    The connection must go to this very address: resolving again could give another one.

    Args:
        host: Name or address as in the URL.
        port: Port.
        allowed: Hosts and addresses that may be private.

    Raises:
        ConnectionFailed: The name cannot be resolved.
        ToolError: It resolves to an address that is not public.
    """
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError, OSError) as error:
        raise ConnectionFailed(
            f"The host {host} cannot be found: {error}.", hint="Check the address and the network."
        ) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host.lower() in allowed:
        return addresses[0]
    # One private address among public ones is a trick, not a choice.
    refused = [each for each in addresses if each not in allowed and not is_public(each)]
    if refused or not addresses:
        raise ToolError(
            f"{host} is a private or local address, which may not be fetched.",
            hint="Fetch a public address.",
        )
    return addresses[0]
