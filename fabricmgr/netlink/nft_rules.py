"""Our nftables tables as values: what a network's table and its guard against spoofed sources hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses

from fabricmgr.netlink.codec import attr, be32
from fabricmgr.netlink.links import mac_bytes
from fabricmgr.netlink.nft import (
    ACCEPT,
    BRIDGE,
    DROP,
    INET,
    NAME_TYPE,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    Chain,
    Element,
    Expression,
    Rule,
    Set,
    Table,
)

HostAddress = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

_EQUAL, _NOT_EQUAL = 0, 1
_LINK_LAYER, _NETWORK_LAYER, _TRANSPORT_LAYER = 0, 1, 2
_IN_NAME, _OUT_NAME, _FAMILY, _PROTOCOL = 6, 7, 15, 16
_ETHERTYPE = 1
# Registers: four of sixteen bytes from 1, over the same sixteen of four bytes from 8. The kernel lists a place by its lower number.
_SECOND, _WORDS = 2, 8
_TYPE_ETHER, _TYPE = 9, {4: 7, 6: 8}
_SOURCE, _DESTINATION = {4: 12, 6: 8}, {4: 16, 6: 24}
_SIZE = {4: 4, 6: 16}
_NFPROTO = {4: 2, 6: 10}
_ETHER = {4: b"\x08\x00", 6: b"\x86\xdd"}
_ARP, _ARP_SENDER = b"\x08\x06", 14
# ICMP redirect (RFC 792), ICMPv6 redirect (RFC 4861 section 4.5).
_REDIRECT = {4: (1, 5), 6: (58, 137)}
_MULTICAST: tuple[Prefix, ...] = (IPv4Network("224.0.0.0/4"), IPv6Network("ff00::/8"))
_LONGEST_LABEL = 90
_NAT_PRIORITY, _BEFORE_ALL = 100, -300


@dataclass(frozen=True)
class Guarded:
    """A port whose pod may speak from its own MAC and addresses alone."""

    port: str
    mac: str
    addresses: tuple[HostAddress, ...]


def network_label(network: str) -> str:
    """How a network is written where the kernel has little room: its name, or `#` and a digest of a long one."""
    return network if len(network) <= _LONGEST_LABEL else "#" + sha256(network.encode()).hexdigest()[:32]


def table_name(network: str) -> str:
    """Of a network or its label."""
    return f"fabricmgr-{network_label(network)}"


def network_table(network: str, bridge: str, sources: Iterable[Prefix], direct: Iterable[Prefix], masquerade: bool) -> Table:
    """Masquerade from a network's pools to all that is not reached directly, and no ICMP redirects out of its bridge.

    In and out by one bridge makes the kernel send redirects; a pod that believed one would go around the host's rules. Node-wide sysctls
    are left alone. A pod costs this table nothing: pools stand in it, not pods."""
    sources, redirects = tuple(sources), tuple(_drop_redirects(bridge, version) for version in (4, 6))
    output = Chain("redirects", "filter", OUTPUT, 0, redirects)
    if not masquerade:
        return Table(INET, table_name(network), (), (output,))
    unmasked = (*direct, *sources, *_MULTICAST)
    sets = [_prefix_set(f"sources{version}", version, sources) for version in (4, 6)]
    sets += [_prefix_set(f"direct{version}", version, unmasked) for version in (4, 6)]
    nat = Chain("outbound", "nat", POSTROUTING, _NAT_PRIORITY, tuple(_masquerade(bridge, version) for version in (4, 6)))
    return Table(INET, table_name(network), tuple(sets), (output, nat))


def guard_table(network: str, guarded: Iterable[Guarded]) -> Table:
    """What guarded ports may send: set elements of port . MAC . address, one a pod and family, and nothing else."""
    pods = tuple(guarded)
    sets = [Set("ports", NAME_TYPE, 16, False, frozenset((name_bytes(pod.port), False) for pod in pods))]
    for version in (4, 6):
        keys = frozenset(element for pod in pods for element in guard_elements(pod, version))
        sets.append(Set(f"allowed{version}", NAME_TYPE << 12 | _TYPE_ETHER << 6 | _TYPE[version], 24 + _SIZE[version], False, keys))
    chosen = (meta(_IN_NAME), lookup("ports"))
    rules: tuple[Rule, ...] = (
        (*chosen, meta(_ETHERTYPE), equal(_ETHER[4]), *_sender(4, _SOURCE[4]), verdict(ACCEPT)),
        (*chosen, meta(_ETHERTYPE), equal(_ETHER[6]), *_sender(6, _SOURCE[6]), verdict(ACCEPT)),
        (*chosen, meta(_ETHERTYPE), equal(_ARP), *_sender(4, _ARP_SENDER), verdict(ACCEPT)),
        (*chosen, verdict(DROP)),
    )
    return Table(BRIDGE, table_name(network), tuple(sets), (Chain("guard", "filter", PREROUTING, _BEFORE_ALL, rules),))


def guard_elements(pod: Guarded, version: int) -> list[Element]:
    """A pod's elements. With IPv6 its link-local address and the unspecified one too: neighbour and router discovery use them."""
    allowed = [address for address in pod.addresses if address.version == version]
    if version == 6 and allowed:
        allowed += [IPv6Address("::"), link_local(pod.mac)]
    start = name_bytes(pod.port) + mac_bytes(pod.mac) + b"\0\0"
    return [(start + address.packed, False) for address in allowed]


def link_local(mac: str) -> IPv6Address:
    """The address the kernel gives a link by its MAC (RFC 4291 appendix A)."""
    octets = mac_bytes(mac)
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((octets[0] ^ 2,)) + octets[1:3] + b"\xff\xfe" + octets[3:])


def accept_bridge(bridge: str) -> tuple[Rule, Rule]:
    """Rules that let through what comes from a bridge and what goes to it."""
    return (
        (meta(_IN_NAME), equal(name_bytes(bridge)), verdict(ACCEPT)),
        (meta(_OUT_NAME), equal(name_bytes(bridge)), verdict(ACCEPT)),
    )


def interval(prefixes: Iterable[Prefix], version: int) -> frozenset[Element]:
    """Elements of a set of prefixes: where each begins, and the first address behind it, merged where they touch."""
    found: set[Element] = set()
    size, end = _SIZE[version], 1 << 8 * _SIZE[version]
    for first, behind in _merged(prefixes, version):
        found.add((first.to_bytes(size, "big"), False))
        if behind < end:
            found.add((behind.to_bytes(size, "big"), True))
    return frozenset(found)


def _merged(prefixes: Iterable[Prefix], version: int) -> list[tuple[int, int]]:
    """First address and the one behind the last, of each stretch. Neighbours of unlike length touch without being one CIDR."""
    if version == 4:
        cidrs: list[Prefix] = list(collapse_addresses(p for p in prefixes if isinstance(p, IPv4Network)))
    else:
        cidrs = list(collapse_addresses(p for p in prefixes if isinstance(p, IPv6Network)))
    merged: list[tuple[int, int]] = []
    for cidr in cidrs:
        first, behind = int(cidr.network_address), int(cidr.broadcast_address) + 1
        if merged and merged[-1][1] == first:
            first = merged.pop()[0]
        merged.append((first, behind))
    return merged


def _prefix_set(name: str, version: int, prefixes: Iterable[Prefix]) -> Set:
    return Set(name, _TYPE[version], _SIZE[version], True, interval(prefixes, version))


def _masquerade(bridge: str, version: int) -> Rule:
    return (
        meta(_FAMILY),
        equal(bytes((_NFPROTO[version],))),
        payload(_NETWORK_LAYER, _SOURCE[version], _SIZE[version]),
        lookup(f"sources{version}"),
        payload(_NETWORK_LAYER, _DESTINATION[version], _SIZE[version]),
        lookup(f"direct{version}", inverted=True),
        meta(_OUT_NAME),
        compare(_NOT_EQUAL, name_bytes(bridge)),
        ("masq", ()),
    )


def _drop_redirects(bridge: str, version: int) -> Rule:
    protocol, kind = _REDIRECT[version]
    return (
        meta(_OUT_NAME),
        equal(name_bytes(bridge)),
        meta(_FAMILY),
        equal(bytes((_NFPROTO[version],))),
        meta(_PROTOCOL),
        equal(bytes((protocol,))),
        payload(_TRANSPORT_LAYER, 0, 1),
        equal(bytes((kind,))),
        verdict(DROP),
    )


def _sender(version: int, offset: int) -> tuple[Expression, ...]:
    """Port, MAC and address side by side in the registers, looked for in one set."""
    return (
        meta(_IN_NAME),
        payload(_LINK_LAYER, 6, 6, _SECOND),
        payload(_NETWORK_LAYER, offset, _SIZE[version], _WORDS + 6),
        lookup(f"allowed{version}"),
    )


# --- expressions: names and attribute numbers of linux/netfilter/nf_tables.h ---------------------------------------------------


def name_bytes(name: str) -> bytes:
    """An interface's name as nftables compares it: sixteen bytes."""
    return name.encode().ljust(16, b"\0")


def meta(key: int, register: int = 1) -> Expression:
    return "meta", (_be(1, register), _be(2, key))


def payload(base: int, offset: int, length: int, register: int = 1) -> Expression:
    return "payload", (_be(1, register), _be(2, base), _be(3, offset), _be(4, length))


def compare(operation: int, value: bytes) -> Expression:
    return "cmp", (_be(1, 1), _be(2, operation), (3, attr(1, value)))


def equal(value: bytes) -> Expression:
    return compare(_EQUAL, value)


def lookup(name: str, inverted: bool = False, register: int = 1) -> Expression:
    return "lookup", ((1, name.encode() + b"\0"), _be(2, register), _be(5, int(inverted)))


def verdict(code: int) -> Expression:
    return "immediate", (_be(1, 0), (2, attr(2, be32(1, code))))


def _be(kind: int, number: int) -> tuple[int, bytes]:
    return kind, number.to_bytes(4, "big")
