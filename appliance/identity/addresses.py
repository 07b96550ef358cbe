"""From which addresses the console may be opened. Pure.

An empty list admits everybody on the network. This machine itself always may: whoever sits at it has the command line
anyway, and it is the way back for a clinic that has shut itself out. Addresses come as a socket or a trusted proxy
gives them: an IPv4 address may be written inside an IPv6 one, and a link-local one may carry its interface.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_allowed(networks: Iterable[str], address: str) -> bool:
    """Whether `address` lies in one of `networks`, or there are none. What is no address is allowed nowhere."""
    listed = [ipaddress.ip_network(each, strict=False) for each in networks]
    if not listed:
        return True
    found = _read(address)
    if found is None:
        return False
    return found.is_loopback or any(found in each for each in listed if each.version == found.version)


def _read(address: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
