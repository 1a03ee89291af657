"""Flows that the kernel tracks, by netlink: those of an address are forgotten before it goes to another pod.

An entry kept alive by an outside sender would else send the new pod's packets where the old pod's went
(linux/netfilter/nfnetlink_conntrack.h).
"""

from collections.abc import Iterable
from errno import EINVAL, ENOENT, EOPNOTSUPP
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink.codec import Flag, attr, attributes, message, nest
from fabricmgr.netlink.links import FAMILY
from fabricmgr.netlink.sockets import NetlinkSocket

HostAddress = IPv4Address | IPv6Address

_HEADER = Struct(">BBH")
_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP = 1
_IP = {4: (1, 2), 6: (3, 4)}  # source, destination
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_SOURCE = 1
_NOT_HERE = frozenset((ENOENT,))


def forget(sock: NetlinkSocket, addresses: Iterable[HostAddress]) -> None:
    """Forget every flow from these addresses and to them, translated or not. Raises KernelRefused.

    Costs one or two walks of the kernel's table for each address. None of them has a flow: nothing."""
    for address in addresses:
        try:
            for direction in (_ORIGINAL, _REPLY):
                sock.exchange([_delete_by_source(address, direction)], [f"forget flows of {address}"], ignore=_NOT_HERE)
        except KernelRefused as refused:
            if refused.errno not in (EINVAL, EOPNOTSUPP):
                raise
            forget_one_by_one(sock, address)


def _delete_by_source(address: HostAddress, direction: int) -> bytearray:
    """Its own flows have it as the source of the original direction, flows to it as the source of the replies (before translation)."""
    endpoint = nest(direction, nest(_TUPLE_IP, attr(_IP[address.version][0], address.packed)))
    ours, other = (_FILTER_ORIGINAL, _FILTER_REPLY) if direction == _ORIGINAL else (_FILTER_REPLY, _FILTER_ORIGINAL)
    flags = _native(ours, _BY_SOURCE) + _native(other, 0)
    return _request(_DELETE, 0, address.version, endpoint, nest(_FILTER, flags))


def forget_one_by_one(sock: NetlinkSocket, address: HostAddress) -> None:
    """Kernels whose deletion knows no filter (before 6.9): read all, delete what matches."""
    for _, body in sock.dump(_request(_GET, Flag.DUMP, address.version), "list flows"):
        found = attributes(body, _HEADER.size)
        if address.packed in _endpoints(found, address.version):
            zone = attr(_ZONE, found[_ZONE]) if _ZONE in found else b""
            request = _request(_DELETE, 0, address.version, nest(_ORIGINAL, found[_ORIGINAL]), attr(_ID, found[_ID]), zone)
            sock.exchange([request], [f"forget a flow of {address}"], ignore=_NOT_HERE)


def _endpoints(found: dict[int, bytes], version: int) -> set[bytes | None]:
    sides = [attributes(attributes(found.get(side, b"")).get(_TUPLE_IP, b"")) for side in (_ORIGINAL, _REPLY)]
    return {side.get(kind) for side in sides for kind in _IP[version]}


def _request(kind: int, flags: int, version: int, *attrs: bytes) -> bytearray:
    return message(_SUBSYSTEM << 8 | kind, flags, _HEADER.pack(FAMILY[version], 0, 0) + b"".join(attrs))


def _native(kind: int, number: int) -> bytes:
    return attr(kind, Struct("=I").pack(number))
