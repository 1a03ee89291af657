"""Links and their addresses over rtnetlink: what is there, and the few changes that are made outside an ADD."""

from collections.abc import Sequence
from errno import EADDRNOTAVAIL, EEXIST, ENODEV
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from struct import Struct

import msgspec

from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink.codec import Flag, attr, attributes, message, nest, number, some_attributes, string, text, u8, u32, walk
from fabricmgr.netlink.sockets import NetlinkSocket

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22

ADDRESS, NAME, MTU, PEER, MASTER, OPERSTATE, LINKINFO, ALIAS, GROUP, EXT_MASK = 1, 3, 4, 5, 10, 16, 18, 20, 27, 29
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
PORT_HAIRPIN, PORT_MULTICAST, PORT_BROADCAST, PORT_ISOLATED = 4, 27, 30, 33
_READ = frozenset((ADDRESS, NAME, MTU, PEER, MASTER, OPERSTATE, LINKINFO, ALIAS, GROUP))
UP = 1
OPERATIONAL = 6
_OPERATIONAL_UNKNOWN = 0
_SKIP_STATS = 8
_AF_SPEC, _AF_INET6, _GENERATION, _BY_NOBODY = 26, 10, 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
NO_DETECTION = 0x02

LINK_HEADER = Struct("=BxHiII")  # family, type, index, flags, change
ADDRESS_HEADER = Struct("=BBBBI")  # family, prefix length, flags, scope, index

HostAddress = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
FAMILY = {4: 2, 6: 10}


class Link(msgspec.Struct, frozen=True):
    """A link as the kernel shows it. peer: ifindex of a veth's other end, in its own namespace. master: 0 for none."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    master: int
    peer: int
    group: int
    alias: str
    up: bool
    operational: bool
    hairpin: bool
    isolated: bool


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def link_body(index: int = 0, up: bool | None = None, *attrs: bytes) -> bytes:
    """Body of a link message; `up` None leaves that flag alone."""
    return LINK_HEADER.pack(0, 0, index, UP if up else 0, 0 if up is None else UP) + b"".join(attrs)


def get_link(index: int = 0, name: str = "") -> bytearray:
    which = (text(NAME, name),) if name else ()
    return message(GETLINK, 0, link_body(index, None, *which, u32(EXT_MASK, _SKIP_STATS)))


def without_own_address(index: int) -> bytearray:
    """Let a link make no IPv6 address for itself (RFC 4862 section 5.3) when it comes up. EAFNOSUPPORT: the kernel has no IPv6."""
    return message(SETLINK, 0, link_body(index, None, nest(_AF_SPEC, nest(_AF_INET6, u8(_GENERATION, _BY_NOBODY)))))


def parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = LINK_HEADER.unpack_from(body)
    found = some_attributes(body, LINK_HEADER.size, _READ)
    info = attributes(found.get(LINKINFO, b""))
    port = attributes(info.get(INFO_SLAVE_DATA, b"")) if string(info.get(INFO_SLAVE_KIND)) == "bridge" else {}
    return Link(
        index=index,
        name=string(found.get(NAME)),
        kind=string(info.get(INFO_KIND)),
        mac=mac_text(found.get(ADDRESS, b"")),
        mtu=number(found.get(MTU)),
        master=number(found.get(MASTER)),
        peer=number(found.get(PEER)),
        group=number(found.get(GROUP)),
        alias=string(found.get(ALIAS)),
        up=bool(flags & UP),
        operational=_operational(found.get(OPERSTATE)),
        hairpin=bool(number(port.get(PORT_HAIRPIN))),
        isolated=bool(number(port.get(PORT_ISOLATED))),
    )


def _operational(state: bytes | None) -> bool:
    return number(state) in (OPERATIONAL, _OPERATIONAL_UNKNOWN)


def link_named(sock: NetlinkSocket, name: str) -> Link | None:
    """The link of that name, or None. Raises KernelRefused."""
    replies = sock.exchange([get_link(name=name)], [f"look for link {name}"], ignore=frozenset((ENODEV,)))
    return parse_link(replies[0][1]) if replies else None


def all_links(sock: NetlinkSocket, master: int = 0, but: Sequence[int] = ()) -> list[Link]:
    """Every link of the namespace, or every port of a bridge; but: without those of these groups. Raises KernelRefused.

    The kernel has no filter by group. A node has thousands of pods' links, so those that are not wanted are told by their bytes."""
    which = (u32(MASTER, master),) if master else ()
    request = message(GETLINK, Flag.DUMP, link_body(0, None, *which, u32(EXT_MASK, _SKIP_STATS)))
    marks = [u32(GROUP, group) for group in but]

    def read(kind: int, body: bytes) -> Link | None:
        if kind != NEWLINK or any(mark in body for mark in marks):
            return None
        return parse_link(body)

    return [link for link in sock.dump_of(request, "list links", read) if not master or link.master == master]


def create_bridge(sock: NetlinkSocket, name: str, mac: str, mtu: int, alias: str) -> None:
    """Make a bridge, up, with a MAC and MTU of its own: without them it takes its ports' lowest. alias: says whose it is.

    Raises KernelRefused."""
    body = link_body(0, True, text(NAME, name), attr(ADDRESS, mac_bytes(mac)), u32(MTU, mtu), nest(LINKINFO, text(INFO_KIND, "bridge")))
    named = message(SETLINK, 0, link_body(0, None, text(NAME, name), text(ALIAS, alias)))
    sock.exchange([message(NEWLINK, Flag.CREATE | Flag.EXCL, body), named], [f"make bridge {name}", f"name bridge {name}"])


def set_link(sock: NetlinkSocket, link: Link, step: str, up: bool | None = None, mtu: int = 0, mac: str = "") -> None:
    """Change what is given, of an existing link. Raises KernelRefused."""
    attrs = [u32(MTU, mtu)] if mtu else []
    if mac:
        attrs.append(attr(ADDRESS, mac_bytes(mac)))
    sock.exchange([message(SETLINK, 0, link_body(link.index, up, *attrs))], [step])


def delete_link(sock: NetlinkSocket, name: str) -> bool:
    """Delete a link by name; False when there was none. Sleeps in the kernel for 10 ms and more. Raises KernelRefused."""
    return _delete(sock, link_body(0, None, text(NAME, name)), f"delete link {name}")


def delete_group(sock: NetlinkSocket, group: int) -> bool:
    """Delete every link of a group in one message, so that one RCU wait serves all; False when it was empty. Raises KernelRefused."""
    return _delete(sock, link_body(0, None, u32(GROUP, group)), f"delete link group {group}")


def _delete(sock: NetlinkSocket, body: bytes, step: str) -> bool:
    try:
        sock.exchange([message(DELLINK, 0, body)], [step])
    except KernelRefused as refused:
        if refused.errno == ENODEV:
            return False
        raise
    return True


def port_settings(name: str, hairpin: bool, isolated: bool, alias: str) -> bytearray:
    """Take a bridge port up, set its flags and give it its alias, by the link's name."""
    return message(NEWLINK, 0, link_body(0, True, text(NAME, name), text(ALIAS, alias), _port_flags(hairpin, isolated)))


@cache
def _port_flags(hairpin: bool, isolated: bool) -> bytes:
    """What a pod floods stays with the host; what the host floods reaches every port.

    Pods are routed, so none needs another's broadcasts; and with a thousand of them each neighbour discovery would be copied to all:
    measured, an ADD then took ten times as long."""
    floods = u8(PORT_MULTICAST, 0) + u8(PORT_BROADCAST, 0)
    flags = nest(INFO_SLAVE_DATA, u8(PORT_HAIRPIN, hairpin), u8(PORT_ISOLATED, isolated), floods)
    return nest(LINKINFO, text(INFO_SLAVE_KIND, "bridge"), flags)


def add_address(sock: NetlinkSocket, link: Link, address: Interface) -> None:
    """Put an address on a link, without duplicate detection; there already: nothing. Raises KernelRefused."""
    attrs = u32(_IFA_FLAGS, NO_DETECTION) if address.version == 6 else b""
    request = message(NEWADDR, Flag.CREATE | Flag.EXCL, _address_body(link, address) + attrs)
    sock.exchange([request], [f"add {address} to {link.name}"], ignore=frozenset((EEXIST,)))


def delete_address(sock: NetlinkSocket, link: Link, address: Interface) -> None:
    """Take an address off a link; none there: nothing. Raises KernelRefused."""
    request = message(DELADDR, 0, _address_body(link, address))
    sock.exchange([request], [f"take {address} off {link.name}"], ignore=frozenset((EADDRNOTAVAIL,)))


def _address_body(link: Link, address: Interface) -> bytes:
    header = ADDRESS_HEADER.pack(FAMILY[address.version], address.network.prefixlen, 0, 0, link.index)
    return header + attr(_IFA_LOCAL, address.ip.packed) + attr(_IFA_ADDRESS, address.ip.packed)


def addresses(sock: NetlinkSocket, index: int = 0) -> list[tuple[int, Interface]]:
    """Addresses of one link, or of all (index 0), each with its link's index. Raises KernelRefused."""
    request = message(GETADDR, Flag.DUMP, ADDRESS_HEADER.pack(0, 0, 0, 0, index))
    found = []
    for kind, body in sock.dump(request, "list addresses"):
        family, length, _, _, at = ADDRESS_HEADER.unpack_from(body)
        if kind == NEWADDR and (not index or at == index):
            seen = dict(walk(body, ADDRESS_HEADER.size))
            found.append((at, _interface(family, seen.get(_IFA_LOCAL) or seen[_IFA_ADDRESS], length)))
    return found


def _interface(family: int, packed: bytes, length: int) -> Interface:
    return IPv4Interface((packed, length)) if family == FAMILY[4] else IPv6Interface((packed, length))
