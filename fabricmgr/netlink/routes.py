"""Routes of the main table over rtnetlink. Ours carry a protocol number of their own, so that nobody else's is ever touched."""

from dataclasses import dataclass
from errno import ENOENT, ESRCH
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from struct import Struct

from fabricmgr.netlink.codec import Flag, attr, attributes, message, nest, number, u32
from fabricmgr.netlink.links import FAMILY
from fabricmgr.netlink.sockets import NetlinkSocket

NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
# Neither of the kernel's (below 5) nor one of those that routing daemons have taken in /etc/iproute2/rt_protos.
PROTOCOL = 102
MAIN = 254
ONLINK = 4
UNICAST = 1
_UNIVERSE, _ON_LINK = 0, 253
_DST, _OIF, _GATEWAY, _SOURCE, _METRICS, _TABLE = 1, 4, 5, 7, 8, 15
_METRIC_MTU = 2
ROUTE_HEADER = Struct("=BBBBBBBBI")  # family, destination and source length, tos, table, protocol, scope, type, flags

HostAddress = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Route:
    """One route of the main table. link: ifindex, 0 for "as the next hop says". mtu: 0 for the link's. Two equal ones are one route."""

    prefix: Prefix
    link: int = 0
    via: HostAddress | None = None
    source: HostAddress | None = None
    mtu: int = 0
    onlink: bool = False

    def same(self, other: "Route") -> bool:
        """Whether `other`, read from the kernel, does what this one asks for: the kernel adds the link where it was left open."""
        asked = (self.prefix, self.via, self.source, self.mtu, self.link or other.link)
        return asked == (other.prefix, other.via, other.source, other.mtu, other.link)


def put_route(route: Route, flags: int) -> bytearray:
    """Message that lays a route of ours."""
    return message(NEWROUTE, flags, _body(route))


def lay(sock: NetlinkSocket, route: Route, replace: bool) -> None:
    """Lay a route; `replace` one of ours to the same prefix, since that would replace anybody's.

    Raises KernelRefused: ENETUNREACH or EHOSTUNREACH for a next hop that is not on a link of ours, EEXIST where there is a route."""
    flags = Flag.CREATE | (Flag.REPLACE if replace else Flag.EXCL)
    sock.exchange([put_route(route, flags)], [f"route to {route.prefix}" + (f" via {route.via}" if route.via else "")])


def withdraw(sock: NetlinkSocket, route: Route) -> None:
    """Delete a route of ours; none there: nothing. Raises KernelRefused."""
    gone = frozenset((ESRCH, ENOENT))
    sock.exchange([message(DELROUTE, 0, _body(route))], [f"delete route to {route.prefix}"], ignore=gone)


def routes(sock: NetlinkSocket, link: int = 0, protocol: int = 0) -> list[Route]:
    """Unicast routes of the main table, both families, by link or protocol (0 for any). Raises KernelRefused."""
    found = []
    for family in FAMILY.values():
        header = ROUTE_HEADER.pack(family, 0, 0, 0, MAIN, protocol, 0, 0, 0)
        filters = u32(_OIF, link) if link else b""
        for kind, body in sock.dump(message(GETROUTE, Flag.DUMP, header + filters), "list routes"):
            fields = ROUTE_HEADER.unpack_from(body)
            if kind == NEWROUTE and fields[7] == UNICAST and protocol in (0, fields[5]):
                found.append((fields, body))
    parsed = [_parse(fields, body) for fields, body in found if _table(fields, body) == MAIN]
    return [route for route in parsed if not link or route.link == link]


def _table(fields: tuple[int, ...], body: bytes) -> int:
    return number(attributes(body, ROUTE_HEADER.size).get(_TABLE), fields[4])


def _parse(fields: tuple[int, ...], body: bytes) -> Route:
    seen = attributes(body, ROUTE_HEADER.size)
    version = 4 if fields[0] == FAMILY[4] else 6
    metrics = attributes(seen.get(_METRICS, b""))
    return Route(
        prefix=_prefix(version, seen.get(_DST), fields[1]),
        link=number(seen.get(_OIF)),
        via=_address(version, seen.get(_GATEWAY)),
        source=_address(version, seen.get(_SOURCE)),
        mtu=number(metrics.get(_METRIC_MTU)),
        onlink=bool(fields[8] & ONLINK),
    )


def _prefix(version: int, packed: bytes | None, length: int) -> Prefix:
    if version == 4:
        return IPv4Network((packed or bytes(4), length))
    return IPv6Network((packed or bytes(16), length))


def _address(version: int, packed: bytes | None) -> HostAddress | None:
    if packed is None:
        return None
    return IPv4Address(packed) if version == 4 else IPv6Address(packed)


def _body(route: Route) -> bytes:
    scope = _ON_LINK if route.via is None and route.prefix.version == 4 else _UNIVERSE
    flags = ONLINK if route.onlink else 0
    prefix = route.prefix
    header = ROUTE_HEADER.pack(FAMILY[prefix.version], prefix.prefixlen, 0, 0, MAIN, PROTOCOL, scope, UNICAST, flags)
    attrs = attr(_DST, prefix.network_address.packed) if prefix.prefixlen else b""
    attrs += u32(_OIF, route.link) if route.link else b""
    attrs += attr(_GATEWAY, route.via.packed) if route.via else b""
    attrs += attr(_SOURCE, route.source.packed) if route.source else b""
    attrs += nest(_METRICS, u32(_METRIC_MTU, route.mtu)) if route.mtu else b""
    return header + attrs
