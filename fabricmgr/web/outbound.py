"""The policy for requests that a client can aim: to event receivers, switches, BMCs, API servers.

A name is resolved once, every address of it is checked, and the connection is made to the very address that was checked, so that a second
answer of the resolver changes nothing. Redirects are not followed and proxies of the environment are not asked.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpx2

from fabricmgr.domain.errors import DestinationRefused

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
TIMEOUT = 10.0  # seconds for connecting, and again for each read
WHOLE = 30.0  # seconds for all of a request, whatever drips in meanwhile
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

# Never by a wide network such as 0.0.0.0/0: only by one that lies within. Metadata services live in link-local space and at fd00:ec2::254.
GUARDED: tuple[Prefix, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "224.0.0.0/4",
        "255.255.255.255/32", "::/128", "::1/128", "fe80::/10", "fd00:ec2::254/128", "ff00::/8",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Outbound:
    """allowed: the setting's networks."""

    allowed: tuple[Prefix, ...]

    def check(self, address: Address) -> None:
        """Raises DestinationRefused."""
        plain = _unmapped(address)
        guard = next((network for network in GUARDED if _holds(network, plain)), None)
        named = self.allowed if guard is None else tuple(n for n in self.allowed if _within(n, guard))
        if not any(_holds(network, plain) for network in named):
            kind = "is not in an allowed network" if guard is None else f"lies in {guard}, which must be named"
            raise DestinationRefused(str(address), kind)

    async def address(self, host: str, port: int, resolve: Resolve | None = None) -> Address:
        """The address to connect to. All addresses of the name must be allowed. Raises DestinationRefused."""
        found = await (resolve or _resolve)(host, port)
        if not found:
            raise DestinationRefused(host, "has no address")
        for address in found:
            self.check(address)
        return found[0]

    async def send(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        verify: Any = True,
        resolve: Resolve | None = None,
    ) -> httpx2.Response:
        """One request to a URL that a client gave. Of the answer, status and headers alone are there.

        Raises DestinationRefused, and httpx2.HTTPError or TimeoutError where the network or the other side fails."""
        given = httpx2.URL(url)
        if given.scheme not in ("http", "https") or not given.host:
            raise DestinationRefused(url, "is no http or https URL")
        port = given.port or (443 if given.scheme == "https" else 80)
        address = await self.address(given.host, port, resolve)
        async with httpx2.AsyncClient(verify=verify, timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client:
            request = client.build_request(method, given.copy_with(host=str(address)), content=content, headers=[*headers])
            request.headers["Host"] = given.netloc.decode("ascii")
            # TLS still asks for, and verifies, the name that was given.
            request.extensions["sni_hostname"] = given.host
            # The body is not read: whoever answers decides how long it is.
            async with asyncio.timeout(WHOLE):
                answer = await client.send(request, stream=True)
            await answer.aclose()
            return answer


async def _resolve(host: str, port: int) -> Sequence[Address]:
    try:
        return [ip_address(host.strip("[]"))]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 form of it stands for (mapped, 6to4 is not: it is routed)."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _holds(network: Prefix, address: Address) -> bool:
    return network.version == address.version and address in network


def _within(network: Prefix, guard: Prefix) -> bool:
    if isinstance(network, IPv4Network) and isinstance(guard, IPv4Network):
        return network.subnet_of(guard)
    return isinstance(network, IPv6Network) and isinstance(guard, IPv6Network) and network.subnet_of(guard)
