"""ARP for IPv4 over Ethernet, as bytes (RFC 826), with probes and announcements (RFC 5227)."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from struct import Struct

ETHERTYPE = 0x0806
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6
UNSPECIFIED = IPv4Address(0)
_ETHERNET = Struct("!6s6sH")
_PACKET = Struct("!HHBBH6s4s6s4s")
_HARDWARE_ETHERNET, _PROTOCOL_IPV4 = 1, 0x0800
_NOBODY = bytes(6)


@dataclass(frozen=True)
class Arp:
    """One packet. source: the MAC in the Ethernet header; sender_mac: the one it speaks of."""

    operation: int
    source: bytes
    sender_mac: bytes
    sender: IPv4Address
    target_mac: bytes
    target: IPv4Address

    @property
    def is_probe(self) -> bool:
        """Somebody asks whether he may have the address (RFC 5227 section 1.1)."""
        return self.operation == REQUEST and self.sender == UNSPECIFIED


def parse(frame: bytes) -> Arp | None:
    """A frame's ARP packet; None for anything else, and for what is cut short."""
    if len(frame) < _ETHERNET.size + _PACKET.size:
        return None
    _, source, ethertype = _ETHERNET.unpack_from(frame)
    hardware, protocol, mac_length, address_length, operation, sender_mac, sender, target_mac, target = _PACKET.unpack_from(frame, 14)
    if (ethertype, hardware, protocol, mac_length, address_length) != (ETHERTYPE, _HARDWARE_ETHERNET, _PROTOCOL_IPV4, 6, 4):
        return None
    if operation not in (REQUEST, REPLY):
        return None
    return Arp(operation, source, sender_mac, IPv4Address(sender), target_mac, IPv4Address(target))


def probe(mac: bytes, address: IPv4Address) -> bytes:
    """Asks who has the address without claiming it (RFC 5227 section 2.1.1)."""
    return _frame(BROADCAST, mac, REQUEST, UNSPECIFIED, _NOBODY, address)


def announcements(mac: bytes, address: IPv4Address) -> list[bytes]:
    """Says to all who has the address: as a request (RFC 5227 section 2.3), and as a reply for those that heed no others."""
    return [_frame(BROADCAST, mac, REQUEST, address, _NOBODY, address), _frame(BROADCAST, mac, REPLY, address, BROADCAST, address)]


def answer(mac: bytes, asked: Arp) -> bytes:
    """The reply to a request, to the one who asked."""
    return _frame(asked.sender_mac, mac, REPLY, asked.target, asked.sender_mac, asked.sender)


def _frame(to: bytes, mac: bytes, operation: int, sender: IPv4Address, target_mac: bytes, target: IPv4Address) -> bytes:
    packet = _PACKET.pack(_HARDWARE_ETHERNET, _PROTOCOL_IPV4, 6, 4, operation, mac, sender.packed, target_mac, target.packed)
    return _ETHERNET.pack(to, mac, ETHERTYPE) + packet
