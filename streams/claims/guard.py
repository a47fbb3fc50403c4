"""Where a claim check may lead: allow-listed schemes and hosts, and no address inside the network by accident.

A name is checked twice: against the list of hosts, and by every address that it resolves to. The connection is made
to the very addresses that were checked, so a name that resolves to something else a moment later gains nothing.
"""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from streams.errors import Reject

UNAVAILABLE = "payload_unavailable"
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Guard:
    """`hosts`: `name`, `*.name` or either with `:port`; `networks`: otherwise refused ranges that are allowed."""

    schemes: frozenset[str]
    hosts: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def check_url(self, url: URL) -> None:
        """Scheme, host, port and a host that is an address itself. Raises Reject."""
        if url.scheme not in self.schemes:
            raise Reject(UNAVAILABLE, f"scheme {url.scheme or 'none'!r} is not allowed here")
        if url.user is not None or url.password is not None:
            raise Reject(UNAVAILABLE, "a user or password in a URI is not allowed")
        host = (url.host or "").rstrip(".").lower()
        if not any(_matches(pattern.lower(), host, url) for pattern in self.hosts):
            raise Reject(UNAVAILABLE, "the host is not among media.claims.hosts")
        if _address(host) is not None:
            self.check_address(host)

    def check_address(self, text: str) -> None:
        """Whether a connection may be made to this address. Raises Reject."""
        address = _address(text)
        if address is None:
            raise Reject(UNAVAILABLE, "the host has no address that is understood")
        inner = _unwrapped(address)
        if any(one in network for network in self.networks for one in (address, inner)):
            return
        if not _is_public(address) or not _is_public(inner):
            raise Reject(UNAVAILABLE, "the host lies in a private network (media.claims.private_networks)")


def _matches(pattern: str, host: str, url: URL) -> bool:
    name, colon, port = pattern.rpartition(":")
    if not colon or not port.isdigit() or (":" in name and not name.endswith("]")):
        name, port = pattern, str(_PORTS.get(url.scheme, ""))
    if str(url.port) != port:
        return False
    name = name.strip("[]")
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


class GuardedResolver(AbstractResolver):
    """Gives a connector checked addresses only; one forbidden address among them refuses the name."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises Reject for a forbidden address, OSError for a name that does not resolve."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return [self._checked(host, kind, str(place[0]), int(place[1])) for kind, _, _, _, place in found]

    def _checked(self, host: str, family: int, address: str, port: int) -> ResolveResult:
        self._guard.check_address(address)
        return ResolveResult(
            hostname=host,
            host=address,
            port=port,
            family=family,
            proto=0,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )

    async def close(self) -> None:
        """Nothing is held."""
