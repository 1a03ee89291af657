"""Neighbour Solicitation and Advertisement over Ethernet, as bytes (RFC 4861 section 7), and the look of RFC 4862 section 5.4."""

from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct, unpack

ETHERTYPE = 0x86DD
SOLICITATION, ADVERTISEMENT = 135, 136
UNSPECIFIED = IPv6Address(0)
ALL_NODES = IPv6Address("ff02::1")
_ETHERNET = Struct("!6s6sH")
_IPV6 = Struct("!IHBB16s16s")
_MESSAGE = Struct("!BBHI16s")
_OPTION = Struct("!BB6s")
_ICMPV6, _HOP_LIMIT, _VERSION = 58, 255, 6 << 28
_SOURCE_LINK, _TARGET_LINK = 1, 2
_SOLICITED, _OVERRIDE = 1 << 30, 1 << 29
_BODY = _ETHERNET.size + _IPV6.size


@dataclass(frozen=True)
class Neighbour:
    """One message. mac: what its link-layer option says, else where the frame came from. source_mac: of the Ethernet header."""

    kind: int
    source_mac: bytes
    source: IPv6Address
    target: IPv6Address
    mac: bytes

    @property
    def is_probe(self) -> bool:
        """Somebody asks whether he may have the address (RFC 4862 section 5.4.2)."""
        return self.kind == SOLICITATION and self.source == UNSPECIFIED


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group in which one who has the address is asked (RFC 4291 section 2.7.1)."""
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])


def group_mac(group: IPv6Address) -> bytes:
    """RFC 2464 section 7."""
    return b"\x33\x33" + group.packed[12:]


def parse(frame: bytes) -> Neighbour | None:
    """A frame's solicitation or advertisement; None for anything else and for what fails a check of RFC 4861 sections 7.1.1 and 7.1.2."""
    if len(frame) < _BODY + _MESSAGE.size:
        return None
    _, source_mac, ethertype = _ETHERNET.unpack_from(frame)
    first, length, following, hops, source, destination = _IPV6.unpack_from(frame, _ETHERNET.size)
    body = frame[_BODY : _BODY + length]
    if ethertype != ETHERTYPE or first >> 28 != 6 or following != _ICMPV6 or hops != _HOP_LIMIT or len(body) < _MESSAGE.size:
        return None
    kind, code, _, _, target = _MESSAGE.unpack_from(body)
    if kind not in (SOLICITATION, ADVERTISEMENT) or code != 0 or target[0] == 0xFF or checksum(source, destination, body) != 0:
        return None
    wanted = _SOURCE_LINK if kind == SOLICITATION else _TARGET_LINK
    return Neighbour(kind, source_mac, IPv6Address(source), IPv6Address(target), _link_layer(body[_MESSAGE.size :], wanted) or source_mac)


def _link_layer(options: bytes, wanted: int) -> bytes | None:
    at = 0
    while at + 8 <= len(options):
        kind, length = options[at], options[at + 1] * 8
        if not length:
            return None
        if kind == wanted:
            return options[at + 2 : at + 8]
        at += length
    return None


def probe(mac: bytes, address: IPv6Address) -> bytes:
    """Asks who has the address without claiming it: from the unspecified address, without a link-layer option."""
    group = solicited_node(address)
    return _frame(group_mac(group), mac, UNSPECIFIED, group, _MESSAGE.pack(SOLICITATION, 0, 0, 0, address.packed))


def announcements(mac: bytes, address: IPv6Address) -> list[bytes]:
    """Says to all who has the address, and that it counts more than what they knew (RFC 4861 section 7.2.6)."""
    return [_advertisement(mac, group_mac(ALL_NODES), ALL_NODES, address, _OVERRIDE)]


def answer(mac: bytes, asked: Neighbour) -> bytes:
    """The advertisement for a solicitation: to the one who asked, to all when he has no address yet (RFC 4861 section 7.2.4)."""
    if asked.source == UNSPECIFIED:
        return _advertisement(mac, group_mac(ALL_NODES), ALL_NODES, asked.target, _OVERRIDE)
    return _advertisement(mac, asked.mac, asked.source, asked.target, _SOLICITED | _OVERRIDE)


def _advertisement(mac: bytes, to_mac: bytes, to: IPv6Address, address: IPv6Address, flags: int) -> bytes:
    body = _MESSAGE.pack(ADVERTISEMENT, 0, 0, flags, address.packed) + _OPTION.pack(_TARGET_LINK, 1, mac)
    return _frame(to_mac, mac, address, to, body)


def _frame(to_mac: bytes, mac: bytes, source: IPv6Address, to: IPv6Address, body: bytes) -> bytes:
    said = checksum(source.packed, to.packed, body)
    body = body[:2] + said.to_bytes(2, "big") + body[4:]
    head = _IPV6.pack(_VERSION, len(body), _ICMPV6, _HOP_LIMIT, source.packed, to.packed)
    return _ETHERNET.pack(to_mac, mac, ETHERTYPE) + head + body


def checksum(source: bytes, destination: bytes, body: bytes) -> int:
    """Over the pseudo-header of RFC 8200 section 8.1 and the message; 0 over one that carries the right one already."""
    data = source + destination + len(body).to_bytes(4, "big") + _ICMPV6.to_bytes(4, "big") + body + b"\0" * (len(body) % 2)
    total: int = sum(unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
